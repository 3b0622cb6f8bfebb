import type { Contacts } from '../../fleet/contacts.ts'
import { byHealth, type NodeView } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ControlLoop } from '../../shared/control-loop.ts'
import type { Random } from '../../shared/random.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { Inquiry } from './inquiry.ts'
import type { Finding } from './node-health.ts'
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

/** This instance reaches no node, while another instance does. */
export interface CutOff {
  /** The instance that reaches nodes. */
  readonly peer: string
  /** Number of nodes. */
  readonly nodes: number
}

/** Milliseconds between two rounds. */
const periodMs = 2000
/** After so many milliseconds without an answer of any node, some are probed. */
const idleMs = 10_000
/** Nodes that are probed first, the healthy ones before the others. */
const firstProbed = 4
/** Nodes that are probed when none of the first is reached. */
const thenProbed = 28
/** Milliseconds between two questions to the other instances while no node is reached. */
const askAgainMs = 10_000
/** Milliseconds for which the report of another instance counts. */
const freshMs = 30_000
/** Milliseconds that a node has to answer before it counts as silent; a busy one takes 1.5 s. */
const silentMs = 3000

interface Lost {
  /** Since when no node is reached, in monotonic milliseconds. */
  readonly at: number
  /** The nodes that were probed in vain. */
  readonly nodes: readonly string[]
  /** Whether some accept connections. Busy nodes may do that too, so only answers to other instances count then. */
  readonly isSilent: boolean
}

/**
 * Finds out whether this instance reaches any node. Its requests and probes tell; without any, it probes some nodes. An
 * instance that reaches no node asks the other instances. If one of them reaches a node, the fault is here: this instance is
 * cut off and leaves service. If none does, all stay in service, because to leave would help no caller.
 */
export class Reach {
  readonly #options: ReachOptions
  readonly #loop: ControlLoop
  /** When any node last answered a request or a probe, in monotonic milliseconds. */
  #reachedAt: number
  /** Null while a node is reached. */
  #lost: Lost | null = null
  /** The instance that said last that nodes answer it, and when. */
  #witness: { readonly id: string; readonly at: number } | null = null
  #askedAt = Number.NEGATIVE_INFINITY
  #cutOff: CutOff | null = null

  constructor(options: ReachOptions) {
    const { clock, random, contacts } = options
    this.#options = options
    // The first probes come one period after the start.
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

  /** The nodes that were probed in vain; empty while any node is reached. */
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

  /** Probes some of the nodes, and more of them when none of the first is reached. */
  async #probe(nodes: readonly NodeView[], signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options
    const startedAt = clock.now()
    const inOrder = shuffled(nodes, random).sort(byHealth)
    const probed: NodeView[] = []
    let isSilent = false
    for (const count of [firstProbed, thenProbed]) {
      const some = inOrder.slice(probed.length, probed.length + count)
      probed.push(...some)
      const findings = await this.#probeAll(some, signal)
      if (findings.some(({ kind }) => kind === 'answered')) {
        this.#met(clock.now())
        return
      }
      isSilent ||= findings.some(reaches)
      if (findings.some(({ kind }) => kind === 'none')) return
    }
    this.#lost = { at: this.#lost?.at ?? startedAt, nodes: probed.map(({ name }) => name), isSilent }
  }

  #probeAll(nodes: readonly NodeView[], signal: AbortSignal): Promise<Finding[]> {
    const { snapshot, contacts, probe } = this.#options
    const { timeout } = snapshot().config.probes
    return Promise.all(
      nodes.map(async ({ name, spec }) => {
        const first = await probe(spec, timeout, signal)
        const isPatient = first.kind === 'timeout' && timeout < silentMs
        const finding = isPatient ? await probe(spec, silentMs, signal) : first
        if (finding.kind === 'answered') contacts.probed(name)
        return finding
      }),
    )
  }

  #met(at: number): void {
    this.#reachedAt = at
    this.#lost = null
  }

  /** @param count number of nodes. */
  #judge(count: number): void {
    const { clock, peers, inquiry } = this.#options
    const lost = count > 0 ? this.#lost : null
    if (lost === null) {
      this.#tell(null)
      return
    }
    const report = lost.isSilent ? this.#witness : peers.newest(lost.nodes)
    const isFresh = report !== null && report.at >= lost.at && report.at > clock.now() - freshMs
    this.#tell(isFresh ? { peer: report.id, nodes: count } : null)
    if (inquiry.isAsking || clock.now() - this.#askedAt < askAgainMs) return
    this.#askedAt = clock.now()
    void this.#ask(lost)
  }

  async #ask({ nodes, isSilent }: Lost): Promise<void> {
    const { clock, inquiry } = this.#options
    const answers = await inquiry.ask(nodes, { answered: isSilent })
    const [id] = [...answers].find(([, reached]) => reached.size > 0) ?? []
    if (isSilent && id !== undefined) this.#witness = { id, at: clock.now() }
    this.#loop.poke()
  }

  #tell(cutOff: CutOff | null): void {
    const before = this.#cutOff
    this.#cutOff = cutOff
    if ((before === null) === (cutOff === null)) return
    const { log, metrics, changed } = this.#options
    metrics.cutOff.set(cutOff === null ? 0 : 1)
    if (cutOff)
      log.warn('cut off: this instance reaches no node, another instance does; not ready', { ...cutOff })
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
