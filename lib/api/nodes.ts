import { z } from 'zod'
import { nodeHealths, nodeSchema } from '../fleet/node.ts'
import { nodeStates } from '../fleet/node-states.ts'
import { documentOrText, faultAnswer, patchBody } from './documents.ts'
import type { Endpoints, Wire } from './endpoint.ts'

export const seenHealths = [...nodeHealths, 'unknown'] as const
export const breakerStates = ['closed', 'open', 'half-open'] as const

export const frozenField = z
  .boolean()
  .describe(
    'whether the node accepts connections of the instance that answers and answers nothing: it then gets only requests that no other node can serve',
  )

export const nodeAnswer = z.object({
  name: z.string(),
  url: z.string(),
  state: z
    .enum([...nodeStates, 'departed', 'rejected'])
    .describe(
      'state that the operator set; or departed: its agent withdrew it or is gone; or rejected: no version of its document was ever valid',
    ),
  health: z.enum(seenHealths).describe('health by the probes; unknown before the first probe'),
  reason: z.string().describe('why the health is what it is'),
  since: z.string().nullable().describe('date of the last change of health; null before the first probe'),
  weight: z.number().describe('speed relative to the other nodes'),
  slots: z
    .int()
    .describe(
      'requests that it runs at once per model, as configured or learned; of its models in memory the smallest number',
    ),
  slots_by_model: z.record(z.string(), z.int()).describe('slots of each model in memory'),
  labels: z.record(z.string(), z.string()),
  source: z.enum(['operator', 'agent']).describe('what registered it'),
  version: z.string().describe("Ollama's version; empty before it has answered"),
  running: z.int().describe('requests of all instances that run on it'),
  running_by_instance: z.record(z.string(), z.int()),
  breaker: z.enum(breakerStates).describe('circuit breaker of the instance that answers'),
  frozen: frozenField,
  loaded: z.array(z.string()).describe('models in its memory'),
  models: z.array(z.string()).describe('models on its disk'),
  vram_bytes: z.int().describe('GPU memory that its loaded models take'),
  rejected: z
    .array(faultAnswer)
    .describe(
      'why the stored document is not in force; the last valid version, if there was one, stays in force',
    ),
})
export type NodeAnswer = Wire<typeof nodeAnswer>

const nodeList = z.object({ nodes: z.array(nodeAnswer) })

/** Without headers: they may contain secrets. */
const writtenNode = z.object({
  name: z.string(),
  ...nodeSchema.omit({ headers: true }).shape,
  url: z.string(),
})

const params = { name: 'name of the node' }

export const nodeEndpoints = {
  listNodes: {
    method: 'get',
    path: '/admin/v1/nodes',
    summary: 'The Ollama servers: the wanted and the observed state of each.',
    answer: { json: nodeList },
  },
  readNode: {
    method: 'get',
    path: '/admin/v1/nodes/:name',
    summary: 'One Ollama server.',
    params,
    answer: { json: nodeAnswer },
    errors: ['not_found'],
  },
  writeNode: {
    method: 'put',
    path: '/admin/v1/nodes/:name',
    summary: 'Registers a node, or replaces its document.',
    params,
    headers: { 'if-none-match': '"*": the node must not exist yet, else 409' },
    body: { document: documentOrText(nodeSchema) },
    statuses: [200, 201],
    answer: { json: writtenNode },
    errors: ['invalid', 'conflict'],
  },
  changeNode: {
    method: 'patch',
    path: '/admin/v1/nodes/:name',
    summary: 'Changes some fields of a node, such as its state.',
    params,
    body: { document: patchBody },
    answer: { json: writtenNode },
    errors: ['invalid', 'not_found', 'conflict'],
  },
  removeNode: {
    method: 'delete',
    path: '/admin/v1/nodes/:name',
    summary: 'Removes a node; requests that run on it are still answered.',
    params,
    statuses: [204],
    answer: null,
    errors: ['invalid', 'not_found'],
  },
} as const satisfies Endpoints
