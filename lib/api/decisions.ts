import { z } from 'zod'
import type { Endpoints, Wire } from './endpoint.ts'
import { candidateAnswer, refusalReasons } from './estimate.ts'

const decisionAnswer = z.object({
  id: z.string().describe('id of the request'),
  decided: z.string().describe('date'),
  model: z.string(),
  tenant: z.string(),
  class: z.string().describe('priority class'),
  node: z.string().nullable().describe('the node that it was sent to; null: none'),
  reason: z
    .enum(['warm', 'affinity', 'cold-load', 'spill'])
    .nullable()
    .describe('why that node was chosen; null: no node was chosen'),
  outcome: z
    .enum(['running', 'answered', 'failed', 'busy', 'left', 'cancelled', ...refusalReasons])
    .describe('how it ended'),
  waited_seconds: z.number(),
  predicted_ttft_seconds: z.number().nullable().describe('from arrival to the first token'),
  actual_ttft_seconds: z
    .number()
    .nullable()
    .describe('null before the first token, when no token came, and when the time is not known'),
  candidates: z.array(candidateAnswer).describe('the best few nodes, the chosen one first'),
})
export type DecisionAnswer = Wire<typeof decisionAnswer>

const decisionList = z.object({ instance: z.string(), decisions: z.array(decisionAnswer) })

export const decisionEndpoints = {
  listDecisions: {
    method: 'get',
    path: '/admin/v1/decisions',
    summary: 'Where this instance sent its last requests, and why; the newest first.',
    query: z.strictObject({
      outcome: z.string().exactOptional().describe('only decisions with this outcome'),
      model: z.string().exactOptional().describe('only decisions for this model'),
      tenant: z.string().exactOptional().describe('only decisions for this tenant'),
      limit: z.coerce.number().int().min(1).max(1000).default(100).describe('most rows to return'),
    }),
    answer: { json: decisionList },
    errors: ['invalid'],
  },
} as const satisfies Endpoints
