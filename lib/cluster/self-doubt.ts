import type { NodeHealth } from '../fleet/node.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Answers } from './inquiry.ts'

/** A node as the leader knows it. */
export interface Watched {
  readonly name: string
  /** What the store says. */
  readonly published: NodeHealth | null
  /** What the leader's probes say. */
  readonly seen: NodeHealth | null
  /** No connection to it comes up. */
  readonly isUnreached: boolean
}

interface SelfDoubtOptions {
  readonly clock: Clock
  readonly log: Log
  /** Asks the other instances which of the nodes they reach. */
  readonly ask: (nodes: readonly string[]) => Promise<Answers>
  /** Instances that could lead instead. */
  readonly successors: () => readonly string[]
  /** Gives leadership to another instance. Rejects when that could not be announced. */
  readonly handOver: (successor: string) => Promise<void>
  /** Called when what is held back has changed. */
  readonly changed: () => void
}

/** Milliseconds within which nodes that fail one after the other fail together: at the default a node is found down in 6 s. */
const spanMs = 10_000
/** Milliseconds for which an answer counts for the nodes that were asked about. */
const answerMs = 30_000
/** So many nodes are asked about. */
const sampleSize = 32
/** So many are named in a log line. */
const shown = 20

/**
 * What a leader makes of nodes that fail together: the fault may be its own way to them. Until it knows, it does not
 * write that they are down. It asks the other instances; if one of them reaches more nodes, that one shall lead.
 *
 *   calm ──nodes fail together──> asking ──another reaches more──> handing over ──could not──> calm
 *                                 asking ──the others do not reach them either──> calm, and the nodes are written down
 */
export class SelfDoubt {
  readonly #options: SelfDoubtOptions
  #phase: 'calm' | 'asking' | 'handing-over' = 'calm'
  /** Nodes that others do not reach either. */
  #believed: ReadonlySet<string> = new Set()
  /** Nodes that others were asked about, and when they answered last (monotonic ms). */
  #asked: ReadonlySet<string> = new Set()
  #answeredAt = 0
  /** Nodes that were written down of late, and when (monotonic ms). */
  readonly #fallen = new Map<string, number>()

  constructor(options: SelfDoubtOptions) {
    this.#options = options
  }

  /** The nodes of which nothing is to be written now. Called with every look at the fleet. */
  hold(nodes: readonly Watched[]): ReadonlySet<string> {
    const now = this.#options.clock.now()
    for (const [name, at] of this.#fallen) if (now - at > spanMs) this.#fallen.delete(name)
    const served = nodes.filter(
      ({ name, published }) => published === 'up' || published === 'slow' || this.#fallen.has(name),
    )
    const lost = served.filter(({ isUnreached }) => isUnreached)
    const due = lost.filter(({ seen, published }) => seen === 'down' && published !== 'down')
    const names = new Set(lost.map(({ name }) => name))
    this.#believed = common(this.#believed, names)
    this.#asked = now - this.#answeredAt > answerMs ? new Set() : common(this.#asked, names)
    const unsure = due.filter(({ name }) => !this.#believed.has(name))
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
    log.warn('nodes fail together: asking the other instances before writing them down', {
      nodes: [...lost].slice(0, shown),
      failing: lost.size,
      of: served.length,
    })
    const names = served.map(({ name }) => name)
    // Those that fail come first: they are what the question is about.
    const sample = [...lost, ...names.filter((name) => !lost.has(name))].slice(0, sampleSize)
    const answers = await ask(sample)
    const own = sample.filter((name) => !lost.has(name)).length
    const best = bestOf(answers, this.#options.successors())
    if (best && best.reached > own) await this.#handOver(best.id, lost)
    else this.#believe(lost, answers)
    this.#options.changed()
  }

  async #handOver(successor: string, lost: ReadonlySet<string>): Promise<void> {
    const { log, handOver } = this.#options
    this.#phase = 'handing-over'
    const nodes = [...lost].slice(0, shown)
    log.warn('this instance does not reach nodes that another one reaches: handing leadership over', {
      successor,
      nodes,
    })
    await handOver(successor).catch((error: unknown) => {
      log.warn('leadership could not be handed over', { successor, error })
      this.#phase = 'calm'
    })
  }

  #believe(lost: ReadonlySet<string>, answers: Answers): void {
    const reached = new Set([...answers.values()].flatMap((nodes) => [...nodes]))
    this.#believed = new Set([...lost].filter((name) => !reached.has(name)))
    this.#asked = lost
    this.#answeredAt = this.#options.clock.now()
    this.#phase = 'calm'
    this.#options.log.warn('no other instance reaches more nodes: those that fail are written down', {
      asked: answers.size,
      nodes: [...this.#believed].slice(0, shown),
    })
  }

  #hasOthers(): boolean {
    return this.#options.successors().length > 0
  }
}

function common(some: ReadonlySet<string>, others: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...some].filter((name) => others.has(name)))
}

/** Whether so many of the nodes fail that the leader's own way to them may be the reason. */
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
