import { z } from 'zod'
import type { Endpoints, Wire } from './endpoint.ts'
import { seenHealths } from './nodes.ts'

const modelFields = {
  name: z.string(),
  alias_of: z
    .string()
    .nullable()
    .describe('the model that answers, if the name is an alias that a route makes; null: it is no alias'),
  size: z.int().describe('bytes on disk, of the newest copy'),
  digest: z.string().describe('of the newest copy'),
  modified_at: z.string().describe('of the newest copy'),
  nodes: z.array(z.string()).describe('nodes that have it on disk'),
  older_on: z.array(z.string()).describe('those of these nodes that have an older copy'),
  loaded_on: z.array(z.string()).describe('nodes that have it in memory'),
  parameter_size: z.string(),
  quantization: z.string(),
}
export const modelAnswer = z.object(modelFields)
export type ModelAnswer = Wire<typeof modelAnswer>

const modelList = z.object({ models: z.array(modelAnswer) })

const memoryFields = {
  size: z.int().describe('bytes'),
  size_vram: z.int().describe('bytes of these in GPU memory'),
  context_length: z.int().describe('tokens of context that it is loaded with'),
  expires_at: z.string().describe('date at which Ollama unloads it, unless a request uses it before'),
  digest: z.string(),
}

export const loadedAnswer = z.object({ name: z.string(), node: z.string(), ...memoryFields })
/** A model in one node's memory. */
export type LoadedAnswer = Wire<typeof loadedAnswer>

const loadedList = z.object({ loaded: z.array(loadedAnswer) })

export const copyAnswer = z.object({
  node: z.string(),
  health: z.enum(seenHealths),
  disk: z
    .object({
      digest: z.string(),
      size: z.int().describe('bytes'),
      modified_at: z.string(),
      newest: z.boolean().describe('whether it has the digest of the newest copy'),
    })
    .nullable()
    .describe('null when it is not on disk'),
  memory: z.object(memoryFields).nullable().describe('null when it is not in memory'),
})
/** A node's copies of a model. */
export type CopyAnswer = Wire<typeof copyAnswer>

const modelDetail = z.object({
  ...modelFields,
  family: z.string(),
  capabilities: z.array(z.string()).describe('capabilities in the words of Ollama, such as "tools"'),
  copies: z.array(copyAnswer).describe('by node: the nodes that have it on disk or in memory'),
})
export type ModelDetail = Wire<typeof modelDetail>

export const modelEndpoints = {
  listModels: {
    method: 'get',
    path: '/admin/v1/models',
    summary: 'Every model on the disks of the nodes, and the aliases that routes make.',
    answer: { json: modelList },
  },
  listLoadedModels: {
    method: 'get',
    path: '/admin/v1/models/loaded',
    summary: 'Every model in the memory of a node.',
    answer: { json: loadedList },
  },
  // After the one above: canonical names have a tag, so that "loaded:latest" can be asked for.
  readModel: {
    method: 'get',
    path: '/admin/v1/models/:name',
    summary: 'One model, with the copies that each node has.',
    params: { name: 'name of the model or of an alias, percent-encoded; without a tag it means "latest"' },
    answer: { json: modelDetail },
    errors: ['model_not_found'],
  },
} as const satisfies Endpoints
