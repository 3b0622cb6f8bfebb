import type Router from '@koa/router'
import { z } from 'zod'
import { describeFaults } from '../fleet/contents.ts'
import { readValue } from '../fleet/document.ts'
import type { InstanceRecord } from '../fleet/instance.ts'
import { ProxyError } from '../shared/errors.ts'
import { type AdminContext, apiVersion } from './context.ts'

const handoverSchema = z.strictObject({ to: z.string().optional() })

/** The llamero processes. An order to one is obeyed by that one only: the others say where it listens. */
export function instanceRoutes(router: Router, admin: AdminContext): void {
  const { cluster, instance: own, log } = admin

  router.get('/admin/v1/instances', (context) => {
    context.body = { apiVersion, instances: cluster.directory.instances().map((each) => row(each, admin)) }
  })

  router.post('/admin/v1/instances/:id/step-down', async (context) => {
    checkOwn(context.params['id'] ?? '', admin)
    const order = readValue(context.request.body ?? {}, handoverSchema)
    if (!order.ok) throw new ProxyError('invalid', { reason: describeFaults(order.faults) })
    if (!cluster.isLeader()) throw conflict(`instance "${own}" does not lead`)
    const to = order.value.to ?? null
    if (to !== null) checkSuccessor(to, admin)
    log.info('asked to step down', { to })
    await cluster.stepDown(to)
    context.body = { apiVersion, id: own, to }
  })

  router.post('/admin/v1/instances/:id/drain', (context) => {
    checkOwn(context.params['id'] ?? '', admin)
    log.info('asked to drain')
    admin.setDraining(true)
    context.body = { apiVersion, id: own, draining: admin.isDraining() }
  })

  router.delete('/admin/v1/instances/:id/drain', (context) => {
    checkOwn(context.params['id'] ?? '', admin)
    log.info('asked to drain no more')
    admin.setDraining(false)
    context.body = { apiVersion, id: own, draining: admin.isDraining() }
  })
}

/** An order is not passed on: where an instance says it listens is no place to send a token to. */
function checkOwn(id: string, { instance: own, cluster }: AdminContext): void {
  if (id === own) return
  const other = known(id, cluster.directory.instances())
  throw conflict(
    `this is instance "${own}"; ask "${id}" itself, which listens on ${other.admin}: --admin-url http://${other.admin}`,
  )
}

function checkSuccessor(to: string, { instance: own, cluster }: AdminContext): void {
  if (to === own) throw conflict(`instance "${own}" leads already`)
  if (known(to, cluster.directory.instances()).draining)
    throw conflict(`instance "${to}" is draining and cannot lead`)
}

function known(id: string, instances: readonly InstanceRecord[]): InstanceRecord {
  const found = instances.find((each) => each.id === id)
  if (!found) throw new ProxyError('not_found', { kind: 'instance', name: id.slice(0, 80) })
  return found
}

function conflict(reason: string): ProxyError {
  return new ProxyError('conflict', { reason })
}

/** The others' numbers are up to a second old, our own are live. */
function row({ boot: _boot, successor: _successor, ...record }: InstanceRecord, admin: AdminContext) {
  const isOwn = record.id === admin.instance
  const load = isOwn ? admin.scheduler.summary() : admin.cluster.directory.loads().get(record.id)
  const running = Object.values(load?.running ?? {}).reduce((sum, each) => sum + each, 0)
  return {
    ...record,
    ...(isOwn && { draining: admin.isDraining() }),
    running,
    queued: load?.queued ?? 0,
  }
}
