import type { NodeSpec, NodeView } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Metrics } from '../../shared/metrics.ts'
import type { Random } from '../../shared/random.ts'
import { type Evidence, Prober } from './prober.ts'
import type { Observation } from './stored-status.ts'

interface ProbersOptions {
  readonly snapshot: () => Snapshot
  readonly clock: Clock
  readonly random: Random
  readonly metrics: Metrics
  readonly evidence: Evidence
  /** See `Prober`. */
  readonly late?: () => void
  /** Called when an observation changed, or when a node became unreachable or reachable. */
  readonly changed: () => void
}

interface Watched {
  /** Another address is another server, of which nothing is known. */
  readonly address: string
  readonly prober: Prober
}

/** The probers of one instance: exactly one per node that is neither `off` nor departed. */
export class Probers {
  readonly #options: ProbersOptions
  readonly #watched = new Map<string, Watched>()
  /** Nodes that were probed before: a new prober of such a node does not start from the status in the snapshot. */
  readonly #met = new Set<string>()

  constructor(options: ProbersOptions) {
    this.#options = options
  }

  /** Starts and stops probers until they match the nodes of the snapshot. */
  match(): void {
    const { nodes } = this.#options.snapshot()
    for (const [name, { address, prober }] of this.#watched) {
      const node = nodes.get(name)
      if (node && isProbed(node) && addressOf(node.spec) === address) continue
      prober.stop()
      this.#watched.delete(name)
    }
    for (const node of nodes.values()) {
      const { name, spec, status } = node
      if (!isProbed(node) || this.#watched.has(name)) continue
      this.#begin(name, spec, this.#met.has(name) ? null : status)
    }
  }

  /** The observation of each node that is probed; null while its health is unknown. */
  observations(): Map<string, Observation | null> {
    return new Map([...this.#watched].map(([name, { prober }]) => [name, prober.observation]))
  }

  /** The nodes to which this instance cannot connect now. */
  unreached(): ReadonlySet<string> {
    return new Set([...this.#watched].flatMap(([name, { prober }]) => (prober.isUnreached ? [name] : [])))
  }

  /** What these probers observed themselves; null for nodes that they have not probed yet. */
  ownObservations(): Map<string, Observation | null> {
    return new Map([...this.#watched].map(([name, { prober }]) => [name, prober.ownObservation]))
  }

  /** See `Prober.requestProbe`. */
  requestProbe(node: string): void {
    this.#watched.get(node)?.prober.requestProbe()
  }

  /** See `Prober.refresh`. */
  async refresh(node: string): Promise<void> {
    await this.#watched.get(node)?.prober.refresh()
  }

  /** Takes effect before it returns. */
  stop(): void {
    for (const { prober } of this.#watched.values()) prober.stop()
    this.#watched.clear()
  }

  #begin(name: string, spec: NodeSpec, known: Observation | null): void {
    const probes = () => this.#options.snapshot().config.probes
    const prober = new Prober({ ...this.#options, name, spec, known, probes })
    this.#met.add(name)
    this.#watched.set(name, { address: addressOf(spec), prober })
    prober.start()
  }
}

/** A departed node is not probed: its agent registers it again when it is back. */
function isProbed({ spec, departed }: NodeView): boolean {
  return spec.state !== 'off' && departed === null
}

/** The fields that make a node another server when they change. */
export function addressOf({ url, tls, headers }: NodeSpec): string {
  return JSON.stringify([url, tls, headers])
}
