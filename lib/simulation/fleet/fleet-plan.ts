import { z } from 'zod'
import { describeFaults } from '../../fleet/documents/contents.ts'
import { readDocument } from '../../fleet/documents/document.ts'
import { ProxyError } from '../../shared/errors.ts'

const gigabytes = z.number().positive()

const schema = z.strictObject({
  /** Tokens per second of a node of speed 1 with a model of 1 GB; both fall as the model grows. */
  decode: z.number().positive().default(120),
  prefill: z.number().positive().default(3500),
  /** Hidden share by which each node is faster or slower than it says. */
  jitter: z.number().min(0).max(0.9).default(0.2),
  nodes: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(63),
        count: z.int().min(1).max(1000).default(1),
        speed: z.number().positive().default(1),
        memory: gigabytes,
        /** GB read from its disk per second. */
        disk: z.number().positive().default(1),
        slots: z.int().min(1).max(256).default(4),
        max_loaded: z.int().min(1).max(100).default(3),
        /** GB of host memory per runner that keep prompts which its slots gave up. */
        prompt_cache: z.number().min(0).default(0),
      }),
    )
    .min(1),
  models: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(200),
        size: gigabytes,
        /** How often callers ask for it, relative to the others; by default Zipf 0.9 in the order of the list. */
        popularity: z.number().positive().optional(),
      }),
    )
    .min(1),
})

export interface PlannedNode {
  readonly name: string
  readonly speed: number
  /** Bytes. */
  readonly memory: number
  /** Bytes per second. */
  readonly disk: number
  readonly slots: number
  readonly maxLoaded: number
  /** Bytes. */
  readonly promptCache: number
}

export interface PlannedModel {
  readonly name: string
  /** Bytes. */
  readonly size: number
  /** Share of the requests. */
  readonly share: number
}

/** The nodes and models of a rehearsal. */
export interface FleetPlan {
  /** Bytes of model times tokens that speed 1 decodes in a second. */
  readonly decode: number
  readonly prefill: number
  readonly jitter: number
  readonly nodes: readonly PlannedNode[]
  readonly models: readonly PlannedModel[]
}

const zipfExponent = 0.9
const giga = 1e9

/** The fleet of docs/routing.md#results, in the words of a fleet file. */
export const defaultFleetText = `# Nodes and models to rehearse with. Sizes in GB, disk in GB per second.
decode: 120      # tokens per second of a node of speed 1 with a model of 1 GB; a model of 10 GB: a tenth of it
prefill: 3500    # the same for reading prompts
jitter: 0.2      # each node is up to so much faster or slower than it says, and nobody knows
nodes:
  - { name: a, count: 3, speed: 1, memory: 24, disk: 0.8, slots: 4, max_loaded: 3, prompt_cache: 0 }
  - { name: b, count: 3, speed: 2.5, memory: 48, disk: 1.5, slots: 4, max_loaded: 3, prompt_cache: 0 }
  - { name: c, count: 2, speed: 6, memory: 80, disk: 2.5, slots: 4, max_loaded: 3, prompt_cache: 0 }
models:          # popularity: how often it is asked for, next to the others; without it Zipf 0.9 in this order
  - { name: 'm3:latest', size: 3 }
  - { name: 'm5:latest', size: 5 }
  - { name: 'm9:latest', size: 9 }
  - { name: 'm14:latest', size: 14 }
  - { name: 'm20:latest', size: 20 }
  - { name: 'm40:latest', size: 40 }
`

/**
 * Reads a fleet file.
 *
 * @throws ProxyError `invalid` with every fault and its line; also for two nodes or models of one name, and for a model
 * that no node has the memory for.
 */
export function readFleetPlan(text: string): FleetPlan {
  const parsed = readDocument(text, schema)
  if (!parsed.ok) throw new ProxyError('invalid', { reason: describeFaults(parsed.faults) })
  const { decode, prefill, jitter, nodes, models } = parsed.value
  const weights = models.map(({ popularity }, at) => popularity ?? (at + 1) ** -zipfExponent)
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const plan: FleetPlan = {
    decode: decode * giga,
    prefill: prefill * giga,
    jitter,
    nodes: nodes.flatMap(({ count, ...node }) =>
      Array.from({ length: count }, (_, at) => ({
        name: count === 1 ? node.name : `${node.name}${at + 1}`,
        speed: node.speed,
        memory: node.memory * giga,
        disk: node.disk * giga,
        slots: node.slots,
        maxLoaded: node.max_loaded,
        promptCache: node.prompt_cache * giga,
      })),
    ),
    models: models.map(({ name, size }, at) => ({
      name,
      size: size * giga,
      share: (weights[at] ?? 0) / total,
    })),
  }
  checkNames('node', plan.nodes)
  checkNames('model', plan.models)
  for (const model of plan.models) {
    if (plan.nodes.some((node) => footprint(model) <= node.memory)) continue
    throw new ProxyError('invalid', { reason: `no node has the memory for model ${model.name}` })
  }
  return plan
}

/** Bytes of memory a loaded model takes: its weights, and the context and graph beside them. */
export function footprint({ size }: Pick<PlannedModel, 'size'>): number {
  return 1.15 * size + 1.2 * giga
}

function checkNames(kind: string, items: readonly { readonly name: string }[]): void {
  const seen = new Set<string>()
  for (const { name } of items) {
    if (seen.has(name)) throw new ProxyError('invalid', { reason: `two ${kind}s are named ${name}` })
    seen.add(name)
  }
}
