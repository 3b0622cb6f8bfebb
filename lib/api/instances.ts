import { z } from 'zod'
import type { Endpoints, Wire } from './endpoint.ts'

const instanceAnswer = z.object({
  id: z.string(),
  version: z.string(),
  host: z.string().exactOptional().describe('host name of its machine; older versions leave it out'),
  data: z.string().describe('address of its data listener'),
  admin: z.string().describe('address of its admin listener'),
  started: z.string().describe('date'),
  role: z.enum(['leader', 'standby']),
  draining: z.boolean().describe('whether it is out of service for load balancers'),
  revision: z.string().describe('store revision of the documents in force on it'),
  running: z.int().describe('requests that run through it'),
  queued: z.int().describe('requests that wait in it'),
})
export type InstanceAnswer = Wire<typeof instanceAnswer>

/** Where an instance knows the others from. */
export const clusterSources = ['store', 'memory', 'none'] as const
export const clusterSourceText =
  'source of what is told of leader and instances; memory: the last answer of the store, which does not answer now; none: the store has not answered since the start'

/** An instance that ended, and is remembered for a day. */
export const missingInstance = z.object({
  id: z.string(),
  host: z.string().describe('host name of its machine; empty when not known'),
  since: z.string().describe('date'),
  how: z.enum(['stopped', 'lost']).describe('lost: without a clean stop, or cut off from the store'),
})

const instanceList = z.object({
  instances: z.array(instanceAnswer),
  missing: z
    .array(missingInstance)
    .describe('instances that ended within a day and are not back, the last one first'),
  source: z.enum(clusterSources).describe(clusterSourceText),
  last_contact_seconds: z
    .number()
    .nullable()
    .describe('seconds since the last answer of the store; null before the first answer'),
})
export type InstanceList = Wire<typeof instanceList>

const drainAnswer = z.object({ id: z.string(), draining: z.boolean() })

const params = { id: 'id of the instance that answers' }

/** Only the named instance obeys an order: any other answers 409 with its address. */
export const instanceEndpoints = {
  forgetInstance: {
    method: 'delete',
    path: '/admin/v1/instances/:id',
    summary: 'Forgets an instance that ended.',
    params: { id: 'id of an instance that is not registered' },
    statuses: [204],
    answer: null,
    errors: ['not_found', 'conflict'],
  },
  listInstances: {
    method: 'get',
    path: '/admin/v1/instances',
    summary: 'The llamero processes of the cluster.',
    answer: { json: instanceList },
  },
  stepDown: {
    method: 'post',
    path: '/admin/v1/instances/:id/step-down',
    summary: 'Hands leadership over to another instance.',
    params,
    body: {
      fields: z
        .strictObject({ to: z.string().optional().describe('id of the instance to lead next') })
        .prefault({}),
    },
    answer: {
      json: z.object({ id: z.string(), to: z.string().nullable().describe('null: any other instance') }),
    },
    errors: ['not_found', 'conflict'],
  },
  drain: {
    method: 'post',
    path: '/admin/v1/instances/:id/drain',
    summary: 'Takes the instance out of service for load balancers; it still serves requests.',
    params,
    answer: { json: drainAnswer },
    errors: ['not_found', 'conflict'],
  },
  undrain: {
    method: 'delete',
    path: '/admin/v1/instances/:id/drain',
    summary: 'Puts the instance back into service.',
    params,
    answer: { json: drainAnswer },
    errors: ['not_found', 'conflict'],
  },
} as const satisfies Endpoints
