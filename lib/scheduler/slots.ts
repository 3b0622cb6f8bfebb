/** Requests running on a node of one model, which are all of one variant: see `pick`. */
export interface Running {
  readonly count: number
  readonly variant: string
}

type Counted = { -readonly [Key in keyof Running]: Running[Key] }

/** Requests running, counted per node and per (model, node): the only place that knows how full a node is. */
export class Slots {
  readonly #byNode = new Map<string, number>()
  readonly #byModel = new Map<string, Map<string, Counted>>()

  /** Requests running on a node, of all models. */
  running(node: string): number {
    return this.#byNode.get(node) ?? 0
  }

  /** Requests running of one model, by node; nodes that run none are absent. */
  ofModel(model: string): ReadonlyMap<string, Running> {
    return this.#byModel.get(model) ?? none
  }

  /** Takes one slot. Returns the function that gives it back; calling that twice gives back one. */
  take(node: string, model: string, variant = ''): () => void {
    const ofModel = this.#byModel.get(model) ?? new Map<string, Counted>()
    this.#byModel.set(model, ofModel)
    const running = ofModel.get(node) ?? { count: 0, variant }
    ofModel.set(node, running)
    running.count++
    add(this.#byNode, node, 1)
    let taken = true
    return () => {
      if (!taken) return
      taken = false
      if (--running.count === 0) ofModel.delete(node)
      add(this.#byNode, node, -1)
      // Only the map that is in use: another may have taken its place since it ran empty.
      if (ofModel.size === 0 && this.#byModel.get(model) === ofModel) this.#byModel.delete(model)
    }
  }

  /** Requests running by node, without the idle ones. */
  byNode(): Record<string, number> {
    return Object.fromEntries(this.#byNode)
  }
}

const none: ReadonlyMap<string, Running> = new Map()

function add(counts: Map<string, number>, key: string, change: number): void {
  const count = (counts.get(key) ?? 0) + change
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
}
