import type { Contacts } from '../../fleet/contacts.ts'
import { byHealth, type NodeView } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ControlLoop } from '../../shared/control-loop.ts'
import type { Random } from '../../shared/random.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { Finding } from './health.ts'
import type { Inquiry } from './inquiry.ts'
import type { PeerReports } from './peer-reports.ts'
import { type ProbeOnce, reaches } from './probe-once.ts'

interface ReachOptions extends Runtime {
  readonly snapshot: () => Snapshot
  readonly contacts: Contacts
  readonly peers: PeerReports
  readonly inquiry: Inquiry
  readonly probe: ProbeOnce
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

/** Milliseconds between two looks at the time, and at least without any answer of a node until some are probed. */
const periodMs = 2000
const idleMs = 10_000
/** Nodes that are probed first, and when none of those is reached; those advised to be well come before the others. */
const firstProbed = 4
const thenProbed = 28
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
  readonly #loop: ControlLoop
  /** Of the last answer of any node, known by requests or probes; monotonic milliseconds. */
  #reachedAt: number
  /** The nodes that were probed in vain, and since when none is reached; null while one is. */
  #lost: { readonly at: number; readonly nodes: readonly string[] } | null = null
  #askedAt = Number.NEGATIVE_INFINITY
  #cutOff: CutOff | null = null

  constructor(options: ReachOptions) {
    const { clock, random, contacts } = options
    this.#options = options
    // An instance that starts finds out soon whether it reaches any.
    this.#reachedAt = clock.now() - idleMs + periodMs
    this.#loop = new ControlLoop({
      clock,
      random,
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

  /** The nodes that were probed in vain while none is reached. */
  get unreached(): readonly string[] {
    return this.#lost?.nodes ?? []
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { snapshot, clock } = this.#options
    const nodes = [...snapshot().nodes.values()].filter(
      ({ spec, departed }) => spec.state !== 'off' && departed === null,
    )
    const { answeredAt, failedAt } = this.#latest(nodes)
    if (answeredAt > this.#reachedAt) this.#met(answeredAt)
    const isInDoubt = this.#lost !== null || failedAt >= this.#reachedAt
    const isIdle = clock.now() - this.#reachedAt >= Math.max(idleMs, 2 * snapshot().config.probes.interval)
    if (nodes.length > 0 && (isInDoubt || isIdle)) await this.#probe(nodes, signal)
    if (!signal.aborted) this.#judge(nodes.length)
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

  /** Probes some of the nodes, and more of them as long as none is reached. */
  async #probe(nodes: readonly NodeView[], signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options
    const startedAt = clock.now()
    const inOrder = shuffled(nodes, random).sort(byHealth)
    const probed: NodeView[] = []
    for (const count of [firstProbed, thenProbed]) {
      const some = inOrder.slice(probed.length, probed.length + count)
      probed.push(...some)
      const findings = await this.#probeAll(some, signal)
      if (findings.some(reaches)) {
        this.#met(clock.now())
        return
      }
      if (findings.some(({ kind }) => kind === 'none')) return
    }
    this.#lost = { at: this.#lost?.at ?? startedAt, nodes: probed.map(({ name }) => name) }
  }

  #probeAll(nodes: readonly NodeView[], signal: AbortSignal): Promise<Finding[]> {
    const { snapshot, contacts, probe } = this.#options
    const { timeout } = snapshot().config.probes
    return Promise.all(
      nodes.map(async ({ name, spec }) => {
        const finding = await probe(spec, timeout, signal)
        if (finding.kind === 'answered') contacts.probed(name)
        return finding
      }),
    )
  }

  #met(at: number): void {
    this.#reachedAt = at
    this.#lost = null
  }

  /** @param count nodes that there are. */
  #judge(count: number): void {
    const { clock, peers, inquiry } = this.#options
    const lost = count > 0 ? this.#lost : null
    if (lost === null) {
      this.#tell(null)
      return
    }
    const report = peers.newest(lost.nodes)
    const isFresh = report !== null && report.at >= lost.at && report.at > clock.now() - freshMs
    this.#tell(isFresh ? { peer: report.id, nodes: count } : null)
    if (inquiry.isAsking || clock.now() - this.#askedAt < askAgainMs) return
    this.#askedAt = clock.now()
    void inquiry.ask(lost.nodes).then(() => this.#loop.poke())
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

function shuffled<T>(list: readonly T[], random: Random): T[] {
  return list
    .map((item) => ({ item, rank: random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item)
}
