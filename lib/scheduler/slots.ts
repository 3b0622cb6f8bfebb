/** Requests running, counted per (node, model): the only place that knows how full a node is. */
export class Slots {
  readonly #byRunner = new Map<string, number>()
  readonly #byNode = new Map<string, number>()

  running(node: string): number {
    return this.#byNode.get(node) ?? 0
  }

  runningModel(node: string, model: string): number {
    return this.#byRunner.get(runner(node, model)) ?? 0
  }

  /** Takes one slot. Returns the function that gives it back; calling that twice gives back one. */
  take(node: string, model: string): () => void {
    const key = runner(node, model)
    add(this.#byRunner, key, 1)
    add(this.#byNode, node, 1)
    let taken = true
    return () => {
      if (!taken) return
      taken = false
      add(this.#byRunner, key, -1)
      add(this.#byNode, node, -1)
    }
  }

  /** Requests running by node, without the idle ones. */
  byNode(): Record<string, number> {
    return Object.fromEntries(this.#byNode)
  }
}

// A node's name cannot contain a blank, so the pair is told apart by one.
const runner = (node: string, model: string) => `${node} ${model}`

function add(counts: Map<string, number>, key: string, change: number): void {
  const count = (counts.get(key) ?? 0) + change
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
}
