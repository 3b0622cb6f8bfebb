import type { RouteAnswer, routeEndpoints } from '../../api/routes.ts'
import { routeSchema } from '../../fleet/config.ts'
import { ProxyError } from '../../shared/errors.ts'
import { type Handlers, Reply } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import {
  checkDocument,
  checkName,
  patchText,
  type SeenRevision,
  seenBy,
  storedDocument,
  textOf,
  writeDocument,
} from './write-document.ts'

/** The routing rules. A rejected one stays listed, beside the version that is still in force. */
export function routeHandlers(admin: AdminContext): Handlers<typeof routeEndpoints> {
  const { keys, store, cluster, log } = admin

  const write = async (name: string, text: string, known: SeenRevision | null, isNew: boolean) => {
    const spec = await checkDocument(text, routeSchema)
    await writeDocument(store, keys.route(name), text, known)
    log.info('route written', { route: name })
    return new Reply(isNew ? 201 : 200, { name, ...spec })
  }

  return {
    listRoutes: () => {
      const names = [...cluster.view.documents('routes').keys()]
      return { routes: names.map((name) => row(name, admin)) }
    },

    readRoute: ({ params }) => {
      const name = checkName('route', params.name)
      if (!cluster.view.documents('routes').has(name))
        throw new ProxyError('not_found', { kind: 'route', name })
      return row(name, admin)
    },

    writeRoute: async ({ params, body, headers }) => {
      const name = checkName('route', params.name)
      const existing = await store.get(keys.route(name))
      const seen = seenBy(headers)
      return write(name, textOf(body), seen === undefined ? existing : seen, !existing)
    },

    changeRoute: async ({ params, body }) => {
      const name = checkName('route', params.name)
      const existing = await store.get(keys.route(name))
      return write(name, patchText(existing?.value ?? '', body), existing, !existing)
    },

    removeRoute: async ({ params }) => {
      const name = checkName('route', params.name)
      const existing = await store.get(keys.route(name))
      if (!existing) throw new ProxyError('not_found', { kind: 'route', name })
      await store.commit({ when: [], apply: [{ type: 'delete', key: existing.key }] })
      log.info('route removed', { route: name })
    },
  }
}

function row(name: string, admin: AdminContext): RouteAnswer {
  const inForce = admin.snapshot.get().routes.find((route) => route.name === name)
  if (!inForce) return { name, in_force: null, ...storedDocument(admin, 'routes', name) }
  const { name: _name, ...spec } = inForce
  return { name, in_force: spec, ...storedDocument(admin, 'routes', name) }
}
