import { X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { labels } from './documents/field-schemas.ts'
import { keepAliveSchema } from './keep-alive.ts'
import { nodeStates } from './node-states.ts'
import { nodeUrlFault, nodeUrlOf } from './node-url.ts'

/** A node's URL without a final slash. */
const nodeUrlRule = z.string().transform((text, context) => {
  const fault = nodeUrlFault(text)
  if (fault === null) return nodeUrlOf(text)
  context.addIssue(fault)
  return z.NEVER
})

/** Only llamero sets the headers that frame or address a message. */
const ownHeaders = [
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]
const maxHeaders = 100
const headerName = z
  .string()
  .max(200)
  .regex(/^[A-Za-z0-9-]+$/, 'is not a header name')
  .refine((name) => !ownHeaders.includes(name.toLowerCase()), 'is a header that llamero sets itself')
const headerValue = z
  .string()
  .max(8192)
  .regex(/^[\t\x20-\x7e]*$/, 'must be printable ASCII')

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).subject !== undefined
  } catch {
    return false
  }
}

/** `R/nodes/<name>`: what the operator wants of one Ollama server. */
export const nodeSchema = z.strictObject({
  url: nodeUrlRule.describe(
    'URL of its Ollama, such as http://HOST:11434, or of a proxy in front of it, with the path at which the proxy serves Ollama',
  ),
  weight: z
    .number()
    .min(0)
    .max(1000)
    .default(1)
    .describe('its speed relative to the other nodes, until llamero has learned it; 0: no requests'),
  slots: z
    .int()
    .min(1)
    .max(1024)
    .optional()
    .describe('requests that it runs at once per model (its OLLAMA_NUM_PARALLEL)'),
  memory: z
    .int({ error: 'must be a whole number of bytes, such as 25769803776 for 24 GiB' })
    .min(1)
    .exactOptional()
    .describe(
      'memory for models in bytes, of all its GPUs; without it: the label vram_mib, else as much as llamero has seen loaded there',
    ),
  max_loaded: z
    .int()
    .min(1)
    .max(1000)
    .exactOptional()
    .describe('models that it keeps in memory at once (its OLLAMA_MAX_LOADED_MODELS); without it: 3'),
  keep_alive: keepAliveSchema
    .exactOptional()
    .describe(
      'how long models that llamero loads stay in its memory after their last request (its OLLAMA_KEEP_ALIVE); without it: routing.keep_alive of the config',
    ),
  labels: labels.default({}).describe('labels by which routes and jobs select nodes'),
  state: z.enum(nodeStates).default('active').describe('cordoned: no new requests; off: not probed either'),
  tls: z
    .strictObject({
      ca: z
        .string()
        .refine(isCertificate, 'is not a PEM certificate')
        .optional()
        .describe('PEM text of the authority that signed its certificate'),
      insecure: z.boolean().default(false).describe('accept any certificate'),
    })
    .optional(),
  headers: z
    .record(headerName, headerValue)
    .refine((headers) => Object.keys(headers).length <= maxHeaders, `must be at most ${maxHeaders} headers`)
    .default({})
    .describe('headers that every request to it carries'),
})
export type NodeSpec = z.output<typeof nodeSchema>

/** A model on a node's disk. */
export interface InventoryModel {
  /** Canonical name (names.ts). */
  readonly name: string
  /** The name as the node shows it, if it has capitals: Ollama keeps the case in which the model was pulled. */
  readonly shown?: string
  readonly digest: string
  readonly size: number
  readonly modified_at: string
  /** Ollama's own `details` and `capabilities`, passed on untouched to clients that list models. */
  readonly details: Readonly<Record<string, unknown>>
  readonly capabilities?: readonly string[]
}

/** A model in a node's memory, as in `/api/ps`. */
export interface LoadedModel {
  readonly name: string
  /** See `InventoryModel`. */
  readonly shown?: string
  readonly digest: string
  readonly size: number
  readonly size_vram: number
  readonly context_length: number
  readonly expires_at: string
  readonly details: Readonly<Record<string, unknown>>
}

/** `slow`: it takes connections, but its status routes do not answer in time; it serves, and is preferred less. */
export const nodeHealths = ['up', 'slow', 'down'] as const
export type NodeHealth = (typeof nodeHealths)[number]

/** The last failed probe: `answer` is an answer that Ollama would not give, or a connection closed by the node. */
export const probeFaults = ['refused', 'unreachable', 'timeout', 'answer'] as const
export type ProbeFault = (typeof probeFaults)[number]

/** `R/state/nodes/<name>`: what the leader observed. Written whole, guarded by the fence, only when it changes. */
export interface NodeStatus {
  /** The leader's term; readers drop a status with an older fence than they have seen. A bigint in decimal. */
  readonly fence: string
  readonly health: NodeHealth
  /** Why, for the operator: "3 probes in a row: connect ECONNREFUSED". */
  readonly reason: string
  /** The cause of a `health` that is not `up`; absent in statuses of older versions. */
  readonly fault?: ProbeFault
  /** ISO date of the last change of `health`. */
  readonly since: string
  /** Ollama's version, "" when it never answered. */
  readonly version: string
  readonly models: readonly InventoryModel[]
  readonly loaded: readonly LoadedModel[]
  /** The node's share as its operator wants it. */
  readonly weight: number
  /** What the leader's scheduler learned of it: JSON of at most 16 KiB, which only schedulers understand. */
  readonly learned?: unknown
}

/** Why a node that an agent had registered is no longer registered. */
export interface NodeDeparture {
  /** ISO date. */
  readonly since: string
  /** For the operator. */
  readonly reason: string
}

/** A node as requests see it: its document and its observed status, in one frozen object. */
export interface NodeView {
  readonly name: string
  readonly spec: NodeSpec
  /** Null until a leader has probed the node once. */
  readonly status: NodeStatus | null
  /** Set for a remembered node that is no longer registered: it is down, and its models are still listed. */
  readonly departed: NodeDeparture | null
  /** Active, and probed at least once: it may take new requests. Its health only decides which nodes are preferred. */
  readonly available: boolean
  /** `unknown` until the first probe. */
  readonly health: NodeHealth | 'unknown'
  readonly slots: number
  /** Effective share, also of unhealthy nodes: 0 takes no requests. */
  readonly weight: number
  /** Digest by canonical model name. */
  readonly onDisk: ReadonlyMap<string, string>
  /** In its memory, by canonical model name. */
  readonly resident: ReadonlyMap<string, LoadedModel>
}

const ranks: Readonly<Record<NodeView['health'], number>> = { up: 0, slow: 1, unknown: 2, down: 3 }

/** Sorts nodes by health, the best first. */
export function byHealth(a: NodeView, b: NodeView): number {
  return ranks[a.health] - ranks[b.health]
}

/** The nodes that may take new requests: nodes advised down only when there are no others. */
export function preferWell(nodes: Iterable<NodeView>): NodeView[] {
  const available = [...nodes].filter((node) => node.available)
  const well = available.filter(({ health }) => health !== 'down')
  return well.length > 0 ? well : available
}
