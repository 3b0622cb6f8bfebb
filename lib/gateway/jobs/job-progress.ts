import {
  isOver,
  type JobAction,
  type JobView,
  type LayerProgress,
  type NodeProgress,
} from '../../fleet/job.ts'

/** One line of progress, as Ollama writes it. */
export interface ProgressLine {
  readonly status: string
  readonly digest?: string
  readonly total?: number
  readonly completed?: number
}

/** Texts of Ollama before and after the layers, which have their own lines (docs/ollama.md#model-management). */
const phases: Partial<Record<JobAction, { readonly first: string; readonly last: readonly string[] }>> = {
  pull: { first: 'pulling manifest', last: ['verifying sha256 digest', 'writing manifest'] },
  push: { first: 'retrieving manifest', last: ['pushing manifest'] },
}

/**
 * Merges the progress of several nodes: the bytes of a layer are the sum over the nodes; a phase after the layers is
 * reported when the last node has reached it. A line is written only when something has changed.
 */
export class JobProgress {
  readonly #action: JobAction
  readonly #said = new Set<string>()
  readonly #layers = new Map<string, LayerProgress>()
  /** The last reported problem of each node. */
  readonly #troubles = new Map<string, string>()
  #status = ''

  constructor(action: JobAction) {
    this.#action = action
  }

  /** The new lines of `job`, without its end. */
  next({ status }: JobView): ProgressLine[] {
    const nodes = Object.values(status?.nodes ?? {})
    const taking = nodes.filter(({ state }) => state !== 'failed' && state !== 'cancelled')
    const troubles = status === null || isOver(status.state) ? [] : this.#troubleLines(status.nodes)
    const phase = phases[this.#action]
    if (!phase) return [...this.#statuses(taking), ...troubles]
    const ranks = taking.map((node) => rankOf(node, phase.last))
    const reached = ranks.length > 0 ? Math.min(...ranks) : 0
    return [
      ...this.#once([phase.first]),
      ...this.#layerLines(taking),
      ...this.#once(phase.last.slice(0, reached)),
      ...troubles,
    ]
  }

  /** Problems: why a node failed while others go on, or what it waits for. */
  #troubleLines(nodes: Readonly<Record<string, NodeProgress>>): ProgressLine[] {
    const lines: ProgressLine[] = []
    for (const [name, { state, error }] of Object.entries(nodes)) {
      if (error === null || this.#troubles.get(name) === error) continue
      this.#troubles.set(name, error)
      lines.push({ status: `${state === 'failed' ? `${this.#action} failed on ${name}` : name}: ${error}` })
    }
    return lines
  }

  #once(statuses: readonly string[]): ProgressLine[] {
    const fresh = statuses.filter((status) => !this.#said.has(status))
    for (const status of fresh) this.#said.add(status)
    return fresh.map((status) => ({ status }))
  }

  #layerLines(taking: readonly NodeProgress[]): ProgressLine[] {
    const digests = new Set(taking.flatMap(({ layers }) => Object.keys(layers)))
    const lines: ProgressLine[] = []
    for (const digest of digests) {
      const sum = sumOf(digest, taking)
      const before = this.#layers.get(digest)
      if (before?.total === sum.total && before.completed === sum.completed) continue
      this.#layers.set(digest, sum)
      const verb = this.#action === 'push' ? 'pushing' : 'pulling'
      lines.push({ status: `${verb} ${digest.replace('sha256:', '').slice(0, 12)}`, digest, ...sum })
    }
    return lines
  }

  /** For actions without known phases: the status of the first node that has not ended. */
  #statuses(taking: readonly NodeProgress[]): ProgressLine[] {
    const status = taking.find((node) => node.status !== '' && !isOver(node.state))?.status ?? ''
    if (status === '' || status === 'success' || status === this.#status) return []
    this.#status = status
    return [{ status }]
  }
}

/** How many of the last phases a node has reached. */
function rankOf({ state, status }: NodeProgress, last: readonly string[]): number {
  return state === 'done' ? last.length : last.indexOf(status) + 1
}

/** The sum over the nodes: a node without the layer has none of it, a finished node has all. */
function sumOf(digest: string, nodes: readonly NodeProgress[]): LayerProgress {
  const size = Math.max(...nodes.map(({ layers }) => layers[digest]?.total ?? 0))
  const completed = nodes.map(({ state, layers }) =>
    state === 'done' ? size : Math.min(size, layers[digest]?.completed ?? 0),
  )
  return { total: size * nodes.length, completed: completed.reduce((sum, bytes) => sum + bytes, 0) }
}
