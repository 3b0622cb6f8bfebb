import { z } from 'zod'
import { className } from '../fleet/classes.ts'
import type { Endpoints, Wire } from './endpoint.ts'
import { estimateAnswer, exclusions } from './estimate.ts'
import { seenHealths } from './nodes.ts'

const routeTestAnswer = z.object({
  asked: z.string().describe('the model that was asked for, by its canonical name'),
  tenant: z.string(),
  route: z.string().nullable().describe('name of the route that matches; null: none'),
  wanted: z.array(z.string()).describe('the models that may answer, in order'),
  labels: z.record(z.string(), z.string()).describe('what the route demands of nodes'),
  class: z.string().describe('priority class'),
  model: z.string().nullable().describe('the model that would answer; null: no node has any of them'),
  num_ctx: z.int().nullable().describe("context that is asked for; null: the node's own"),
  panic: z
    .boolean()
    .describe('breakers and advice keep it from most nodes that have the model, so they are not believed'),
  nodes: z.array(
    z.object({
      name: z.string(),
      excluded: z
        .enum(exclusions)
        .nullable()
        .describe('why it is excluded; null when it could take the request now'),
      loaded: z.boolean().describe('whether it has the model in memory'),
      other_variant: z.boolean().describe('loaded with other options: it would be loaded again'),
      running: z.int().describe('requests of this instance running on it'),
      slots: z.int(),
      weight: z.number(),
      health: z.enum(seenHealths),
      health_reason: z.string().describe('why its health is what it is'),
    }),
  ),
  choice: z
    .object({
      node: z.string(),
      reason: z.enum(['warm', 'affinity', 'cold-load', 'spill', 'fallback']),
    })
    .nullable()
    .describe('where it would be sent; null: nowhere now'),
  refusal: z.enum(['no-model', 'down', 'full']).nullable().describe('why it would be sent nowhere'),
  estimate: estimateAnswer.exactOptional().describe('what it would have to expect; absent without a model'),
})
export type RouteTestAnswer = Wire<typeof routeTestAnswer>

export const routeTestEndpoints = {
  testRoute: {
    method: 'post',
    path: '/admin/v1/routes/test',
    summary: 'What this instance would do with a request now; nothing is sent.',
    body: {
      fields: z.strictObject({
        model: z.string(),
        tenant: z.string().default('anonymous'),
        class: className.exactOptional().describe('priority class of the key'),
        num_ctx: z.int().min(1).exactOptional().describe('tokens of context that the request asks for'),
      }),
    },
    answer: { json: routeTestAnswer },
    errors: ['bad_model'],
  },
} as const satisfies Endpoints
