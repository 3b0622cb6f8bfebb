import type { InstanceAnswer, instanceEndpoints } from '../../api/instances.ts'
import type { InstanceRecord } from '../../fleet/instance.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import { clusterSource, silentSeconds } from '../store-knowledge.ts'

/** The llamero processes. Only the named instance obeys an order; the others answer with its address. */
export function instanceHandlers(admin: AdminContext): Handlers<typeof instanceEndpoints> {
  const { cluster, instance: own, log, store, keys } = admin

  const drain = (id: string, draining: boolean) => {
    checkOwn(id, admin)
    log.info(draining ? 'drain requested' : 'drain cancelled')
    admin.setDraining(draining)
    return { id: own, draining: admin.isDraining() }
  }

  return {
    listInstances: () => ({
      instances: cluster.view.instances().map((each) => row(each, admin)),
      missing: cluster.view.missing(),
      source: clusterSource(admin),
      last_contact_seconds: silentSeconds(admin),
    }),

    forgetInstance: async ({ params: { id } }) => {
      if (cluster.view.instances().some((each) => each.id === id))
        throw conflict(`instance "${id}" is registered: stop it first`)
      if (!cluster.view.missing().some((each) => each.id === id))
        throw new ProxyError('not_found', { kind: 'instance', name: id.slice(0, 80) })
      await store.commit({ when: [], apply: [{ type: 'delete', key: keys.rememberedInstance(id) }] })
      log.info('instance forgotten', { missing: id })
    },

    stepDown: async ({ params, body: { to = null } }) => {
      checkOwn(params.id, admin)
      if (!cluster.isLeader())
        throw conflict(`instance "${own}" is not the leader; send this to the leader: llamero instance list`)
      if (to !== null) checkSuccessor(to, admin)
      log.info('step-down requested', { to })
      await cluster.stepDown(to)
      return { id: own, to }
    },

    drain: ({ params }) => drain(params.id, true),
    undrain: ({ params }) => drain(params.id, false),
  }
}

/** Orders are not forwarded: the address in another instance's record must not get the caller's token. */
function checkOwn(id: string, { instance: own, cluster }: AdminContext): void {
  if (id === own) return
  const other = known(id, cluster.view.instances())
  throw conflict(`this is instance "${own}"; send this to "${id}": --admin-url http://${other.admin}`)
}

function checkSuccessor(to: string, { instance: own, cluster }: AdminContext): void {
  if (to === own) throw conflict(`instance "${own}" is the leader already`)
  if (known(to, cluster.view.instances()).draining)
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

/** Numbers of other instances are up to a second old; those of this one are live. */
function row(
  { boot: _boot, successor: _successor, question: _question, ...record }: InstanceRecord,
  admin: AdminContext,
): InstanceAnswer {
  const isOwn = record.id === admin.instance
  const load = isOwn ? admin.scheduler.summary() : admin.cluster.view.loads().get(record.id)
  const running = Object.values(load?.running ?? {}).reduce((sum, each) => sum + each, 0)
  return {
    ...record,
    ...(isOwn && { draining: admin.isDraining(), role: admin.cluster.isLeader() ? 'leader' : 'standby' }),
    running,
    queued: load?.queued ?? 0,
  }
}
