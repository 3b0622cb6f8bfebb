import { z } from 'zod'

const fields = {
  keep_alive: z
    .enum(['ours', 'caller'])
    .describe(
      '"ours": keep_alive is taken out of requests. "caller": it is passed on, except 0 and "forever", which are taken out. A request that only unloads a model needs the scope admin',
    ),
  num_predict: z
    .union([z.literal('none'), z.int().min(1)], { error: 'must be a number of tokens, or none' })
    .describe('most tokens of one answer, for num_predict, max_tokens and max_output_tokens'),
  num_gpu: z.enum(['drop', 'pass']).describe('drop: the option num_gpu is taken out'),
  raw: z.enum(['pass', 'refuse']).describe('whether a request may skip the template of the model ("raw")'),
  template: z.enum(['pass', 'refuse']).describe("whether a request may replace the model's template"),
  debug_render_only: z
    .enum(['pass', 'refuse'])
    .describe('whether a request may ask for the rendered prompt, which holds the system prompt'),
  server_tools: z
    .enum(['strip', 'refuse', 'pass'])
    .describe(
      'tools that the Ollama server itself runs, such as web_search: with its ollama.com account, and with further chats outside the queue. "strip": they are taken out of requests. "refuse": 403',
    ),
  cloud: z.enum(['pass', 'refuse']).describe('whether requests may name models that run at ollama.com'),
}

/**
 * `callers` in `R/config`: which options of a caller reach a node, since some cost all other callers
 * (docs/ollama.md#security). The defaults are for ordinary users.
 */
export const callersSchema = z.strictObject({
  keep_alive: fields.keep_alive.default('ours'),
  num_predict: fields.num_predict.default('none'),
  num_gpu: fields.num_gpu.default('drop'),
  raw: fields.raw.default('pass'),
  template: fields.template.default('pass'),
  debug_render_only: fields.debug_render_only.default('refuse'),
  server_tools: fields.server_tools.default('strip'),
  cloud: fields.cloud.default('refuse'),
})
export type CallerPolicy = z.output<typeof callersSchema>

/** `options` of a key: what is said here replaces the field of `callers` of the same name. */
export const apiKeyOptionsSchema = z.strictObject({
  keep_alive: fields.keep_alive.exactOptional(),
  num_predict: fields.num_predict.exactOptional(),
  num_gpu: fields.num_gpu.exactOptional(),
  raw: fields.raw.exactOptional(),
  template: fields.template.exactOptional(),
  debug_render_only: fields.debug_render_only.exactOptional(),
  server_tools: fields.server_tools.exactOptional(),
  cloud: fields.cloud.exactOptional(),
})
export type ApiKeyOptions = z.output<typeof apiKeyOptionsSchema>

const tokens = z
  .int()
  .min(1)
  .max(2 ** 31 - 1)

/** How many tokens of context a runner of a model is loaded with: a number pins it, `max` caps what callers ask for. */
const numCtx = z.union(
  [tokens, z.strictObject({ max: tokens.describe('most tokens that a caller may ask for') })],
  {
    error:
      'must be a number of tokens, such as 8192, or the most that may be asked for, such as {max: 32768}',
  },
)

/** What a route or `models` of `R/config` sets for requests to a model. */
export const modelOptionsSchema = z.strictObject({
  num_ctx: numCtx
    .exactOptional()
    .describe(
      'tokens of context. A number: each request on /api gets it. {max: N}: requests on /api may ask for at most N. /v1 has no such field',
    ),
})
export type ModelOptions = z.output<typeof modelOptionsSchema>
