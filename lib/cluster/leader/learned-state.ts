import { z } from 'zod'
import type { NodeView } from '../../fleet/node.ts'
import type { LearnedNode, LearnedState } from '../../scheduler/learning/learning.ts'
import type { Clock } from '../../shared/clock.ts'

/**
 * Milliseconds between two comparisons: what was learned changes with every request, and each write costs all instances.
 */
const periodMs = 60_000
/**
 * Milliseconds until the first comparison of a term, and between two searches for models that nothing is published of: the
 * first requests of a model teach most.
 */
const firstMs = 5000
/** Bytes of what is published of one node, as JSON. */
const maxBytes = 16 * 1024
/** Two numbers are equal when they differ by less than this share of the larger one. */
const little = 0.1
/** Quantiles of output lengths kept of a model: enough for the shape of their distribution. */
const outputsTold = 20

const mean = z.object({ mean: z.number(), count: z.number().min(0) })
const learningSchema = z.object({
  speed: mean,
  disk: mean,
  /** The most used first. */
  runners: z.record(
    z.string(),
    z.object({ decode: mean, prefill: mean, slots: z.number().min(1).nullable() }),
  ),
  /** Output tokens by model, as quantiles. */
  outputs: z.record(z.string(), z.array(z.number().min(0)).max(outputsTold)),
})
/** What the leader's scheduler learned of one node and of the models that it ran, as published. */
type NodeLearning = z.output<typeof learningSchema>

interface Pending {
  readonly learning: NodeLearning
  readonly text: string
}

interface SharedLearningOptions {
  readonly learned: () => LearnedState
  readonly clock: Clock
}

/**
 * Decides what the statuses of one term publish of the learned state: a model that is new on a node within five seconds,
 * other changes at most once a minute.
 */
export class SharedLearning {
  readonly #options: SharedLearningOptions
  /** Changes that are not in the store yet, by node. */
  readonly #pending = new Map<string, Pending>()
  #nextAt: number
  #nextFullAt: number

  constructor(options: SharedLearningOptions) {
    this.#options = options
    this.#nextAt = options.clock.now() + firstMs
    this.#nextFullAt = this.#nextAt
  }

  /** Compares what was learned of each node with what is `stored`, if it is time to. */
  compare(stored: (node: string) => unknown): void {
    const { learned, clock } = this.#options
    const now = clock.now()
    if (now < this.#nextAt) return
    this.#nextAt = now + firstMs
    const isFull = now >= this.#nextFullAt
    if (isFull) this.#nextFullAt = now + periodMs
    const { nodes, outputs } = learned()
    for (const [name, node] of Object.entries(nodes)) {
      if (!isFull && !hasNewRunner(node, stored(name))) continue
      const learning = learningOf(node, outputs)
      if (differs(learning, readLearning(stored(name))))
        this.#pending.set(name, { learning, text: JSON.stringify(learning) })
    }
  }

  /** What the status of a node is to publish. Returns the object `stored` itself when nothing changed. */
  publishedOf(node: string, stored: unknown): unknown {
    const pending = this.#pending.get(node)
    if (!pending) return stored
    if (JSON.stringify(stored) !== pending.text) return pending.learning
    this.#pending.delete(node)
    return stored
  }
}

/** The learned state in the statuses of all nodes, for a scheduler to start from. What cannot be read is left out. */
export function learnedIn(nodes: Iterable<NodeView>): LearnedState {
  const known: Record<string, LearnedNode> = {}
  const lengths: Record<string, readonly number[]> = {}
  for (const { name, status } of nodes) {
    const learning = readLearning(status?.learned)
    if (!learning) continue
    const { outputs, ...node } = learning
    known[name] = node
    Object.assign(lengths, outputs)
  }
  return { nodes: known, outputs: lengths }
}

/** Whether something was learned of a runner that is not published. Cheap: it is asked of every node every five seconds. */
function hasNewRunner({ runners }: LearnedNode, stored: unknown): boolean {
  const published = (stored as Partial<NodeLearning> | null | undefined)?.runners ?? {}
  return Object.keys(runners).some((key) => !Object.hasOwn(published, key))
}

function readLearning(stored: unknown): NodeLearning | null {
  return learningSchema.safeParse(stored).data ?? null
}

/** The most used runners, up to `maxBytes`, and the output lengths of their models. */
function learningOf({ speed, disk, runners }: LearnedNode, outputs: LearnedState['outputs']): NodeLearning {
  const learning: NodeLearning = { speed: rounded(speed), disk: rounded(disk), runners: {}, outputs: {} }
  let bytes = JSON.stringify(learning).length
  const mostUsed = Object.entries(runners).sort(([, a], [, b]) => b.decode.count - a.decode.count)
  for (const [key, { decode, prefill, slots }] of mostUsed) {
    const runner = { [key]: { decode: rounded(decode), prefill: rounded(prefill), slots } }
    const [model = ''] = key.split('\n')
    const lengths = { [model]: quantiles(outputs[model] ?? []) }
    bytes += Buffer.byteLength(JSON.stringify([runner, lengths]))
    if (bytes > maxBytes) break
    Object.assign(learning.runners, runner)
    Object.assign(learning.outputs, lengths)
  }
  return learning
}

function rounded({ mean, count }: { mean: number; count: number }) {
  return { mean: Number(mean.toPrecision(4)), count }
}

function quantiles(lengths: readonly number[]): number[] {
  if (lengths.length <= outputsTold) return [...lengths]
  const sorted = lengths.toSorted((a, b) => a - b)
  return Array.from({ length: outputsTold }, (_, nth) => {
    const at = Math.floor(((nth + 0.5) * sorted.length) / outputsTold)
    return sorted[at] ?? 0
  })
}

/** Whether any figure differs by more than `little`. */
function differs(learning: NodeLearning, stored: NodeLearning | null): boolean {
  if (!stored) return true
  const [now, before] = [figures(learning), figures(stored)]
  if (now.size !== before.size) return true
  return [...now].some(([name, figure]) => isFar(figure, before.get(name)))
}

function isFar(a: number, b: number | undefined): boolean {
  return b === undefined || Math.abs(a - b) > little * Math.max(Math.abs(a), Math.abs(b))
}

/** The figures to compare, by name. A speed is stored as its logarithm, which must not be compared by shares. */
function figures({ speed, disk, runners, outputs }: NodeLearning): Map<string, number> {
  const found = new Map([
    ['speed', Math.exp(speed.mean)],
    ['disk', disk.mean],
  ])
  for (const [key, { decode, prefill, slots }] of Object.entries(runners)) {
    found.set(`decode ${key}`, decode.mean)
    found.set(`prefill ${key}`, prefill.mean)
    found.set(`samples ${key}`, decode.count)
    found.set(`slots ${key}`, slots ?? 0)
  }
  for (const [model, lengths] of Object.entries(outputs))
    found.set(`output ${model}`, lengths.reduce((sum, each) => sum + each, 0) / (lengths.length || 1))
  return found
}
