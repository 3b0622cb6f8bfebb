import { z } from 'zod'
import { className } from '../fleet/classes.ts'
import type { Endpoints, Wire } from './endpoint.ts'
import { estimateAnswer, exclusions } from './estimate.ts'
import { seenHealths } from './nodes.ts'

const routeTestAnswer = z.object({
  asked: z.string().describe('the requested model, by its canonical name'),
  path: z.string().exactOptional().describe('path of the request on the data listener'),
  tenant: z.string(),
  route: z.string().nullable().describe('name of the route that matches; null: none'),
  wanted: z.array(z.string()).describe('the models to try, in order'),
  labels: z.record(z.string(), z.string()).describe('labels that the route requires of nodes'),
  class: z.string().describe('priority class'),
  model: z.string().nullable().describe('the model that would answer; null: no node has any of them'),
  num_ctx: z.int().nullable().describe("requested context in tokens; null: the node's own, as always on /v1"),
  panic: z
    .boolean()
    .describe('whether breakers and advice are ignored, because they exclude most nodes that have the model'),
  nodes: z.array(
    z.object({
      name: z.string(),
      excluded: z
        .enum(exclusions)
        .nullable()
        .describe('why the node is excluded; null when it could take the request now'),
      loaded: z.boolean().describe('whether it has the model in memory'),
      other_variant: z
        .boolean()
        .describe('whether it has the model in memory with other options, so that it would load it again'),
      running: z.int().describe('requests of this instance that run on it'),
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
    .describe('the node that the request would be sent to; null: no node now'),
  refusal: z
    .enum(['no-model', 'down', 'full'])
    .nullable()
    .describe('why the request would be sent to no node'),
  estimate: estimateAnswer.exactOptional().describe('estimate of the request; absent without a model'),
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
        path: z.string().default('/api/chat').describe('path of the request on the data listener'),
        tenant: z.string().default('anonymous'),
        class: className.exactOptional().describe('priority class of the key'),
        num_ctx: z
          .int()
          .min(1)
          .exactOptional()
          .describe('tokens of context that the request asks for; only paths of /api know it'),
      }),
    },
    answer: { json: routeTestAnswer },
    errors: ['bad_model', 'invalid', 'lacks_capability', 'unknown_path'],
  },
} as const satisfies Endpoints
