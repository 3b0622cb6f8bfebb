import { z } from 'zod'
import { rejectedDocument } from './documents.ts'
import type { Endpoints, Wire } from './endpoint.ts'
import { breakerStates, seenHealths } from './nodes.ts'

const departedNode = z.object({
  name: z.string(),
  since: z.string().describe('date'),
  reason: z.string(),
  models: z.array(z.string()).describe('the first of those it had on disk'),
})

const unwellNode = z.object({
  name: z.string(),
  health: z.enum(seenHealths),
  breaker: z.enum(breakerStates).describe('circuit breaker of the instance that answers'),
  since: z.string().nullable().describe('date of the last change of health'),
  reason: z.string().describe('why the health is what it is'),
})

const term = z.object({
  fence: z.string().describe('revision of the leader key: later terms have higher ones'),
  instance: z.string(),
  since: z.string().describe('date'),
  until: z.string().nullable().describe('date at which the next term began; null while it lasts'),
  why: z.string().nullable().describe('why it ended, as the next leader saw it'),
})

const store = z.object({
  kind: z.enum(['etcd', 'embedded']),
  ok: z.boolean(),
  state: z
    .enum(['ok', 'read-only', 'refused', 'unreachable'])
    .describe('refused: not even reading is allowed'),
  problem: z
    .object({
      kind: z.enum(['no-space', 'corrupt', 'no-permission', 'disk-full', 'unwritable']),
      since: z.string().describe('date'),
      reason: z.string(),
      todo: z.string().describe('what an operator can do'),
    })
    .nullable()
    .describe('what it refuses although it answers; null: nothing'),
  last_contact_seconds: z.number().nullable().describe('since it was heard; null before the first time'),
  round_trip_ms: z.number().nullable().describe('that one read takes now; null when it does not answer'),
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
    .describe("where the documents in force come from; snapshot: the one on the instance's disk"),
  suspect: z.string().nullable().describe('why what the store says is not put in force; null when it is'),
  revision: z.string().describe('store revision of what is in force on this instance'),
  stored: z
    .string()
    .describe(
      'revision of the last change an operator made: an instance with a revision as high has judged every change',
    ),
  active: z
    .array(z.object({ id: z.string(), revision: z.string() }))
    .describe('what each instance has in force'),
  rejected: z.array(rejectedDocument).describe('the first documents that are not in force, and why'),
  rejected_total: z.int().describe('documents that are not in force'),
  warned: z
    .array(z.object({ key: z.string(), warnings: z.array(z.string()) }))
    .describe('documents besides nodes that are in force and yet worth a second look'),
})

const nodes = z.object({
  total: z.int(),
  up: z.int(),
  slow: z.int(),
  down: z.int(),
  cordoned: z.int(),
  rejected: z.int().describe('documents of nodes that are not in force as they are stored'),
  unwell: z.int().describe('nodes that requests avoid: down, slow, or with an open breaker'),
  unwell_first: z.array(unwellNode).describe('the first of them, the worst first'),
  departed: z.int().describe('nodes of agents that are not registered any more'),
  departed_first: z.array(departedNode).describe('those that departed last, the newest first'),
})

const models = z.object({
  on_disk: z.int(),
  loaded: z.int(),
  differing: z.int().describe('models of which some nodes have an older copy than others'),
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
        .describe('the instance that reaches nodes while this one reaches none; null otherwise'),
    })
    .describe('the instance that answers'),
  leader: z.object({ id: z.string(), fence: z.string() }).nullable().describe('null: no instance leads'),
  terms: z.array(term).describe('the last terms of leaders, the newest first'),
  store,
  advice: z
    .enum(['leader', 'own'])
    .describe('health and weights in force: those of the leader, or found by this instance'),
  config,
  nodes,
  models,
  instances: z.int(),
  requests: z.object({ running: z.int(), queued: z.int() }).describe('of all instances'),
  warnings: z.array(z.string()).describe('what an operator should know'),
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
