import type { NodeHealth } from '../../fleet/node.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import type { Answers } from '../probing/inquiry.ts'

/** What the leader knows of a node. */
export interface Watched {
  readonly name: string
  /** Health in the store. */
  readonly published: NodeHealth | null
  /** Health by the leader's probes. */
  readonly seen: NodeHealth | null
  /** Whether the leader cannot connect to it. */
  readonly isUnreached: boolean
}

interface SelfDoubtOptions {
  readonly clock: Clock
  readonly log: Log
  /** Asks the other instances which of the nodes they reach. */
  readonly ask: (nodes: readonly string[]) => Promise<Answers>
  /** Other instances that can lead. */
  readonly successors: () => readonly string[]
  /** Hands leadership to another instance. Rejects when that could not be announced. */
  readonly handOver: (successor: string) => Promise<void>
  /** Called when the held nodes have changed. */
  readonly changed: () => void
}

/** Nodes that fail within this many milliseconds fail together. By default a failing node is down after 6 s. */
const spanMs = 10_000
/** Milliseconds for which the answers of other instances are valid. */
const answerMs = 30_000
/** Nodes per question. */
const sampleSize = 32
/** Nodes named in a log line. */
const shown = 20

/**
 * Checks the leader's own network when nodes fail together. The leader does not write that they are down, but asks the
 * other instances. If one of them reaches more nodes, the leader hands leadership to it.
 *
 *   calm ──nodes fail together──> asking ──another instance reaches more──> handing over ──failed──> calm
 *                                 asking ──no other instance reaches more──> calm; the nodes are written down
 */
export class SelfDoubt {
  readonly #options: SelfDoubtOptions
  #phase: 'calm' | 'asking' | 'handing-over' = 'calm'
  /** Failing nodes that no other instance reaches either. */
  #confirmed: ReadonlySet<string> = new Set()
  /** Nodes of the last question, and when it was answered (monotonic ms). */
  #asked: ReadonlySet<string> = new Set()
  #answeredAt = 0
  /** Nodes that were written down within `spanMs`, and when (monotonic ms). */
  readonly #fallen = new Map<string, number>()

  constructor(options: SelfDoubtOptions) {
    this.#options = options
  }

  /** Called in every round of the leader. Returns the nodes that must not be written in it. */
  holdBack(nodes: readonly Watched[]): ReadonlySet<string> {
    const now = this.#options.clock.now()
    for (const [name, at] of this.#fallen) if (now - at > spanMs) this.#fallen.delete(name)
    const served = nodes.filter(
      ({ name, published }) => published === 'up' || published === 'slow' || this.#fallen.has(name),
    )
    const lost = served.filter(({ isUnreached }) => isUnreached)
    const due = lost.filter(({ seen, published }) => seen === 'down' && published !== 'down')
    const names = new Set(lost.map(({ name }) => name))
    this.#confirmed = common(this.#confirmed, names)
    this.#asked = now - this.#answeredAt > answerMs ? new Set() : common(this.#asked, names)
    const unsure = due.filter(({ name }) => !this.#confirmed.has(name))
    const held = new Set(unsure.map(({ name }) => name))
    if (this.#phase !== 'calm') return held
    if (unsure.length > 0 && isTogether(lost.length, served.length) && this.#hasOthers()) {
      if (unsure.some(({ name }) => !this.#asked.has(name))) void this.#inquire(served, names)
      return held
    }
    for (const { name } of due) this.#fallen.set(name, now)
    return new Set()
  }

  async #inquire(served: readonly Watched[], lost: ReadonlySet<string>): Promise<void> {
    const { log, ask } = this.#options
    this.#phase = 'asking'
    log.warn('nodes fail together: asking the other instances before writing that they are down', {
      nodes: [...lost].slice(0, shown),
      failing: lost.size,
      of: served.length,
    })
    const names = served.map(({ name }) => name)
    // The failing nodes come first: the question is about them.
    const sample = [...lost, ...names.filter((name) => !lost.has(name))].slice(0, sampleSize)
    const answers = await ask(sample)
    const own = sample.filter((name) => !lost.has(name)).length
    const best = bestOf(answers, this.#options.successors())
    if (best && best.reached > own) await this.#handOver(best.id, lost)
    else this.#confirm(lost, answers)
    this.#options.changed()
  }

  async #handOver(successor: string, lost: ReadonlySet<string>): Promise<void> {
    const { log, handOver } = this.#options
    this.#phase = 'handing-over'
    const nodes = [...lost].slice(0, shown)
    log.warn('another instance reaches more nodes: handing leadership over', {
      successor,
      nodes,
    })
    await handOver(successor).catch((error: unknown) => {
      log.warn('leadership could not be handed over', { successor, error })
      this.#phase = 'calm'
    })
  }

  #confirm(lost: ReadonlySet<string>, answers: Answers): void {
    const reached = new Set([...answers.values()].flatMap((nodes) => [...nodes]))
    this.#confirmed = new Set([...lost].filter((name) => !reached.has(name)))
    this.#asked = lost
    this.#answeredAt = this.#options.clock.now()
    this.#phase = 'calm'
    this.#options.log.warn('no other instance reaches more nodes: writing that the failing nodes are down', {
      asked: answers.size,
      nodes: [...this.#confirmed].slice(0, shown),
    })
  }

  #hasOthers(): boolean {
    return this.#options.successors().length > 0
  }
}

function common(some: ReadonlySet<string>, others: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...some].filter((name) => others.has(name)))
}

/** Whether so many nodes fail that the leader's own network may be the reason. */
function isTogether(lost: number, served: number): boolean {
  return lost === served || (lost >= 2 && 2 * lost >= served)
}

function bestOf(answers: Answers, successors: readonly string[]) {
  let best: { readonly id: string; readonly reached: number } | null = null
  for (const [id, nodes] of answers) {
    if (!successors.includes(id) || nodes.size <= (best?.reached ?? 0)) continue
    best = { id, reached: nodes.size }
  }
  return best
}
