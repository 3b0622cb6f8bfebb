import { z } from 'zod'
import type { Wire } from './endpoint.ts'
import { seenHealths } from './nodes.ts'

export const candidateAnswer = z.object({
  node: z.string(),
  state: z
    .enum(['ready', 'full', 'loading', 'absent'])
    .describe(
      'state of the model there: in memory with a free slot, in memory without one, being loaded, not in memory',
    ),
  start_seconds: z.number().describe('until the request could start'),
  prefill_seconds: z.number().describe('for its prompt'),
  decode_seconds: z.number().describe('for its answer'),
  externality_seconds: z.number().describe('by which the request slows other requests there'),
  eviction_seconds: z.number().describe('to load evicted models again'),
  cost_seconds: z.number().describe('the weighted sum of these terms'),
})
/** A node that could serve a request, with its cost terms and their weighted sum. */
export type CandidateAnswer = Wire<typeof candidateAnswer>

/** Why a node is excluded. */
export const exclusions = [
  'off',
  'cordoned',
  'unknown',
  'down',
  'weight',
  'tried',
  'capability',
  'labels',
  'no-model',
  'breaker',
  'frozen',
  'refused',
  'busy',
  'full',
  'variant',
  'swap',
] as const

export const excludedNode = z.object({
  node: z.string(),
  excluded: z.enum(exclusions).nullable().describe('why the node cannot take the request'),
  health: z.enum(seenHealths),
  health_reason: z.string().describe('why its health is what it is'),
})
/** A node that cannot take a request now. */
export type ExcludedNode = Wire<typeof excludedNode>

/** Fields about the nodes that cannot take a request now. */
export const excludedFields = {
  excluded_total: z.int().nullable().describe('nodes that cannot take it now; null: not computed'),
  excluded_nodes: z
    .array(excludedNode)
    .nullable()
    .describe('the first of these nodes; nodes that have its model or match its route come first'),
}
const excludedNodes = z.object(excludedFields)
export type ExcludedNodes = Wire<typeof excludedNodes>

export const refusalReasons = [
  'queue-full',
  'tenant-full',
  'no-capacity',
  'waited-too-long',
  'no-node',
  'load-failed',
] as const

/** Fields of the estimate for a request. */
export const estimateFields = {
  refused: z
    .enum(refusalReasons)
    .nullable()
    .exactOptional()
    .describe('why the request would be refused at once; null: it would not be; absent: not computed'),
  waits_for: z
    .enum(['slot', 'load', 'share'])
    .nullable()
    .describe('null when it could start now, or when that is not known'),
  starts_in_seconds: z.number().nullable().describe('null when that is not known'),
  places: z
    .int()
    .nullable()
    .describe('number of nodes that could serve it; null: not computed, as for later rows of a list'),
  candidates: z
    .array(candidateAnswer)
    .nullable()
    .describe('the best of these nodes, the cheapest first; null: not computed'),
}
export const estimateAnswer = z.object(estimateFields)
/** The estimate for a request: what it waits for, until when, and the nodes that could serve it. */
export type EstimateAnswer = Wire<typeof estimateAnswer>
