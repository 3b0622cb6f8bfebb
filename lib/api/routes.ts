import { z } from 'zod'
import { routeSchema } from '../fleet/config.ts'
import { documentOrText, patchBody, seenHeaders, storedFields } from './documents.ts'
import type { Endpoints, Wire } from './endpoint.ts'

const routeAnswer = z.object({
  name: z.string(),
  in_force: z
    .object(routeSchema.shape)
    .nullable()
    .describe('the version in force, with every default; null when no version was ever valid'),
  ...storedFields,
})
export type RouteAnswer = Wire<typeof routeAnswer>

const routeList = z.object({ routes: z.array(routeAnswer) })

const writtenRoute = z.object({ name: z.string(), ...routeSchema.shape })

const params = { name: 'name of the route' }

export const routeEndpoints = {
  listRoutes: {
    method: 'get',
    path: '/admin/v1/routes',
    summary: 'The routes, in the order in which they are tried.',
    answer: { json: routeList },
  },
  readRoute: {
    method: 'get',
    path: '/admin/v1/routes/:name',
    summary: 'One route.',
    params,
    answer: { json: routeAnswer },
    errors: ['invalid', 'not_found'],
  },
  writeRoute: {
    method: 'put',
    path: '/admin/v1/routes/:name',
    summary: 'Creates a route, or replaces its document.',
    params,
    headers: seenHeaders,
    body: { document: documentOrText(routeSchema) },
    statuses: [200, 201],
    answer: { json: writtenRoute },
    errors: ['invalid', 'conflict'],
  },
  // Creates the route when there is none: every field has a default.
  changeRoute: {
    method: 'patch',
    path: '/admin/v1/routes/:name',
    summary: 'Changes some fields of a route; creates the route when there is none.',
    params,
    body: { document: patchBody },
    statuses: [200, 201],
    answer: { json: writtenRoute },
    errors: ['invalid', 'conflict'],
  },
  removeRoute: {
    method: 'delete',
    path: '/admin/v1/routes/:name',
    summary: 'Removes a route.',
    params,
    statuses: [204],
    answer: null,
    errors: ['invalid', 'not_found'],
  },
} as const satisfies Endpoints
