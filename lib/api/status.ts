import { z } from 'zod'
import { rejectedDocument } from './documents.ts'
import type { Endpoints, Wire } from './endpoint.ts'
import { clusterSources, clusterSourceText, missingInstance } from './instances.ts'
import { breakerStates, frozenField, seenHealths } from './nodes.ts'

const departedNode = z.object({
  name: z.string(),
  since: z.string().describe('date'),
  reason: z.string(),
  models: z.array(z.string()).describe('the first of the models that it had on disk'),
})

const unwellNode = z.object({
  name: z.string(),
  health: z.enum(seenHealths),
  breaker: z.enum(breakerStates).describe('circuit breaker of the instance that answers'),
  frozen: frozenField,
  since: z.string().nullable().describe('date of the last change of health'),
  reason: z.string().describe('why the health is what it is'),
})

const term = z.object({
  fence: z.string().describe('create revision of the leader key; a later term has a higher one'),
  instance: z.string(),
  since: z.string().describe('date'),
  until: z.string().nullable().describe('date of the next term; null: this term still lasts'),
  why: z.string().nullable().describe('why the term ended, as the next leader tells it'),
})

const store = z.object({
  kind: z.enum(['etcd', 'embedded']),
  ok: z.boolean(),
  state: z
    .enum(['ok', 'read-only', 'refused', 'unreachable'])
    .describe('refused: not even reads are allowed'),
  problem: z
    .object({
      kind: z.enum(['no-space', 'corrupt', 'no-permission', 'disk-full', 'unwritable']),
      since: z.string().describe('date'),
      reason: z.string(),
      remedy: z.string().describe('what to do about it'),
    })
    .nullable()
    .describe('why the store refuses calls although it answers; null: it refuses none'),
  last_contact_seconds: z
    .number()
    .nullable()
    .describe('seconds since its last answer; null before the first answer'),
  remedy: z
    .string()
    .nullable()
    .describe('what to do while it does not answer; null: it answers, or is part of the instance'),
  round_trip_ms: z
    .number()
    .nullable()
    .describe('milliseconds of one read now; null when the store does not answer'),
  members: z
    .array(
      z.object({
        name: z.string().describe('empty while it does not answer'),
        endpoint: z.string(),
        ok: z.boolean().describe('whether it answered just now'),
      }),
    )
    .describe('empty for a store without members'),
})

const config = z.object({
  source: z
    .enum(['store', 'snapshot', 'none'])
    .describe("source of the documents in force; snapshot: the copy on the instance's disk"),
  suspect: z
    .string()
    .nullable()
    .describe('why the documents of the store are not put in force; null: they are in force'),
  revision: z.string().describe('store revision of the documents in force on this instance'),
  stored: z
    .string()
    .describe(
      'revision of the last change of an operator: an instance with a revision this high has checked every change',
    ),
  active: z
    .array(z.object({ id: z.string(), revision: z.string() }))
    .describe('the revision in force on each instance'),
  rejected: z.array(rejectedDocument).describe('the first rejected documents, with their faults'),
  rejected_total: z.int().describe('number of rejected documents'),
  warned: z
    .array(z.object({ key: z.string(), warnings: z.array(z.string()) }))
    .describe('documents in force with warnings, other than nodes'),
})

const nodes = z.object({
  total: z.int(),
  up: z.int(),
  slow: z.int(),
  down: z.int(),
  cordoned: z.int(),
  rejected: z.int().describe('rejected documents of nodes'),
  unwell: z.int().describe('nodes that requests avoid: down, slow, frozen, or with an open breaker'),
  unwell_first: z.array(unwellNode).describe('the first of these nodes, the worst first'),
  recovering: z
    .array(z.string())
    .describe(
      'the first of the healthy nodes at which requests of this instance failed: the next request that needs one tests it',
    ),
  departed: z.int().describe('nodes of agents that are no longer registered'),
  departed_first: z.array(departedNode).describe('the last departed nodes, the newest first'),
})

const models = z.object({
  on_disk: z.int(),
  loaded: z.int(),
  differing: z.int().describe('models with an older copy on some nodes'),
  differing_first: z.array(z.object({ name: z.string(), older_on: z.array(z.string()) })),
})

const statusAnswer = z.object({
  cluster: z.string(),
  version: z.string().describe('of the instance that answers'),
  instance: z
    .object({
      id: z.string(),
      role: z.enum(['leader', 'standby']),
      uptime_seconds: z.int(),
      draining: z.boolean(),
      cut_off: z
        .string()
        .nullable()
        .describe(
          'an instance that reaches nodes while this instance reaches none; null: this instance is not cut off',
        ),
    })
    .describe('the instance that answers'),
  source: z.enum(clusterSources).describe(clusterSourceText),
  leader: z
    .object({ id: z.string(), fence: z.string() })
    .nullable()
    .describe('null: no instance leads, or the store does not answer and this instance does not lead'),
  last_leader: z
    .object({ id: z.string(), fence: z.string() })
    .nullable()
    .describe('the leader at the last answer of the store, where `leader` is not known; null: it is'),
  terms: z.array(term).describe('the last terms of leaders, the newest first'),
  store,
  advice: z
    .enum(['leader', 'own'])
    .describe('source of health and weights: the leader, or probes of this instance'),
  config,
  nodes,
  models,
  instances: z.int().describe('registered instances; 0 also while `source` is `none`'),
  missing: z
    .array(missingInstance)
    .describe('the last instances that ended within a day without a clean stop and are not back'),
  requests: z
    .object({ running: z.int(), queued: z.int() })
    .describe('of all instances; of this instance alone unless `source` is `store`'),
  warnings: z.array(z.string()).describe('warnings for the operator'),
})
export type StatusAnswer = Wire<typeof statusAnswer>

export const statusEndpoints = {
  readStatus: {
    method: 'get',
    path: '/admin/v1/status',
    summary: 'The cluster at a glance.',
    answer: { json: statusAnswer },
  },
} as const satisfies Endpoints
