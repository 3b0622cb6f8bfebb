import type { Contacts } from '../fleet/contacts.ts'
import type { NodeView } from '../fleet/node.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import { type Dice, Loop } from '../shared/loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Inquiry } from './inquiry.ts'
import type { PeerReports } from './peer-reports.ts'
import { type ProbeOnce, reaches } from './probe-once.ts'

interface ReachOptions {
  readonly snapshot: () => Snapshot
  readonly contacts: Contacts
  readonly peers: PeerReports
  readonly inquiry: Inquiry
  readonly probe: ProbeOnce
  readonly clock: Clock
  readonly dice: Dice
  readonly log: Log
  readonly metrics: Metrics
  /** Called when `cutOff` has changed. */
  readonly changed: () => void
}

/** An instance that reaches no node, while another one does. */
export interface CutOff {
  /** The instance that reaches nodes. */
  readonly peer: string
  /** Nodes that there are. */
  readonly nodes: number
}

/** Milliseconds between two looks at the time, and without any answer of a node after which one is probed. */
const periodMs = 2000
const idleMs = 10_000
/** Nodes that are probed at once, any of them. */
const probedAtOnce = 4
/** Milliseconds between two questions while no node is reached, and for which the answer of a peer counts. */
const askAgainMs = 10_000
const freshMs = 30_000

/**
 * Whether this instance reaches any node. Its own requests and probes tell; where there are none it probes some. If it reaches
 * none it asks the others: only when one of them does is the fault here. When no instance reaches any node all go on as they
 * are, for an instance that takes itself out of service then helps nobody.
 */
export class Reach {
  readonly #options: ReachOptions
  readonly #loop: Loop
  /** Of the last answer of any node, known by requests or probes; monotonic milliseconds. */
  #reachedAt: number
  /** Since when no node is reached; null while one is. */
  #lostAt: number | null = null
  #askedAt = Number.NEGATIVE_INFINITY
  #cutOff: CutOff | null = null

  constructor(options: ReachOptions) {
    const { clock, dice, contacts } = options
    this.#options = options
    this.#reachedAt = clock.now()
    this.#loop = new Loop({
      clock,
      dice,
      periodMs: () => periodMs,
      round: (signal) => this.#round(signal),
    })
    contacts.onTurn(() => this.#loop.poke())
  }

  start(): void {
    this.#loop.start()
  }

  /** Takes effect before it returns. */
  stop(): void {
    void this.#loop.stop()
  }

  get cutOff(): CutOff | null {
    return this.#cutOff
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { snapshot, clock } = this.#options
    const nodes = [...snapshot().nodes.values()].filter(
      ({ spec, departed }) => spec.state !== 'off' && departed === null,
    )
    const { answeredAt, failedAt } = this.#latest(nodes)
    if (answeredAt > this.#reachedAt) this.#met(answeredAt)
    const isInDoubt = this.#lostAt !== null || failedAt >= this.#reachedAt
    if (nodes.length > 0 && (isInDoubt || clock.now() - this.#reachedAt >= idleMs))
      await this.#probe(nodes, signal)
    if (!signal.aborted) this.#judge(nodes)
  }

  #latest(nodes: readonly NodeView[]) {
    let [answeredAt, failedAt] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]
    for (const { name } of nodes) {
      const contact = this.#options.contacts.of(name)
      answeredAt = Math.max(answeredAt, contact.answeredAt, contact.probedAt)
      failedAt = Math.max(failedAt, contact.failedAt)
    }
    return { answeredAt, failedAt }
  }

  /** Probes some of the nodes. */
  async #probe(nodes: readonly NodeView[], signal: AbortSignal): Promise<void> {
    const { snapshot, clock, dice, contacts, probe } = this.#options
    const { timeout } = snapshot().config.probes
    const startedAt = clock.now()
    const probed = sampleOf(nodes, probedAtOnce, dice)
    const findings = await Promise.all(probed.map(({ spec }) => probe(spec, timeout, signal)))
    for (const [nth, node] of probed.entries())
      if (findings[nth]?.kind === 'answered') contacts.probed(node.name)
    if (findings.some(reaches)) this.#met(clock.now())
    else if (findings.every(({ kind }) => kind !== 'none')) this.#lostAt ??= startedAt
  }

  #met(at: number): void {
    this.#reachedAt = at
    this.#lostAt = null
  }

  #judge(nodes: readonly NodeView[]): void {
    const { clock, peers, inquiry } = this.#options
    const lostAt = nodes.length > 0 ? this.#lostAt : null
    if (lostAt === null) {
      this.#tell(null)
      return
    }
    const names = nodes.map(({ name }) => name)
    const report = peers.newest(names)
    const isFresh = report !== null && report.at >= lostAt && report.at > clock.now() - freshMs
    this.#tell(isFresh ? { peer: report.id, nodes: nodes.length } : null)
    if (inquiry.isAsking || clock.now() - this.#askedAt < askAgainMs) return
    this.#askedAt = clock.now()
    const sample = sampleOf(names, 2 * probedAtOnce, this.#options.dice)
    void inquiry.ask(sample).then(() => this.#loop.poke())
  }

  #tell(cutOff: CutOff | null): void {
    const before = this.#cutOff
    this.#cutOff = cutOff
    if ((before === null) === (cutOff === null)) return
    const { log, metrics, changed } = this.#options
    metrics.cutOff.set(cutOff === null ? 0 : 1)
    if (cutOff) log.warn('cut off: this instance reaches no node, another one does; not ready', { ...cutOff })
    else log.info('no longer cut off from the nodes: ready')
    changed()
  }
}

/** Some of a list, any of them. */
function sampleOf<T>(list: readonly T[], count: number, dice: Dice): T[] {
  const rest = [...list]
  const sample: T[] = []
  while (rest.length > 0 && sample.length < count)
    sample.push(...rest.splice(Math.floor(dice() * rest.length), 1))
  return sample
}
