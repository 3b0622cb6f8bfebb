import type Router from '@koa/router'
import { routeSchema } from '../fleet/config.ts'
import { ProxyError } from '../shared/errors.ts'
import { type AdminContext, apiVersion } from './context.ts'
import {
  bodyOf,
  checkDocument,
  checkName,
  patchText,
  seenBy,
  storedDocument,
  textOf,
  writeDocument,
} from './documents.ts'

/** The routing rules. A rejected one stays listed, beside the version that is still in force. */
export function routeRoutes(router: Router, admin: AdminContext): void {
  const { keys, store, cluster, log } = admin
  const nameOf = (params: Record<string, string>) => checkName('route', params['name'] ?? '')

  router.get('/admin/v1/routes', (context) => {
    const names = [...cluster.directory.objects('routes').keys()]
    context.body = { apiVersion, routes: names.map((name) => row(name, admin)) }
  })

  router.get('/admin/v1/routes/:name', (context) => {
    const name = nameOf(context.params)
    if (!cluster.directory.objects('routes').has(name))
      throw new ProxyError('not_found', { kind: 'route', name })
    context.body = { apiVersion, ...row(name, admin) }
  })

  router.put('/admin/v1/routes/:name', async (context) => {
    const name = nameOf(context.params)
    const existing = await store.get(keys.route(name))
    const seen = seenBy(context)
    const text = textOf(context)
    const spec = checkDocument(text, routeSchema)
    await writeDocument(store, keys.route(name), text, seen === undefined ? existing : seen)
    log.info('route written', { route: name })
    context.status = existing ? 200 : 201
    context.body = { apiVersion, name, ...spec }
  })

  // Makes the route when there is none: every field has a default.
  router.patch('/admin/v1/routes/:name', async (context) => {
    const name = nameOf(context.params)
    const existing = await store.get(keys.route(name))
    const text = patchText(existing?.value ?? '', bodyOf(context))
    const spec = checkDocument(text, routeSchema)
    await writeDocument(store, keys.route(name), text, existing)
    log.info('route written', { route: name })
    context.status = existing ? 200 : 201
    context.body = { apiVersion, name, ...spec }
  })

  router.delete('/admin/v1/routes/:name', async (context) => {
    const name = nameOf(context.params)
    const existing = await store.get(keys.route(name))
    if (!existing) throw new ProxyError('not_found', { kind: 'route', name })
    await store.commit({ when: [], apply: [{ type: 'delete', key: existing.key }] })
    log.info('route removed', { route: name })
    context.status = 204
  })
}

function row(name: string, admin: AdminContext) {
  const inForce = admin.snapshot.get().routes.find((route) => route.name === name)
  const { name: _name, ...spec } = inForce ?? { name }
  return { name, in_force: inForce ? spec : null, ...storedDocument(admin, 'routes', name) }
}
