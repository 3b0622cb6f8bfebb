import type { NodeSpec, NodeView } from '../fleet/node.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import type { Dice } from '../shared/loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import { type Evidence, Prober } from './prober.ts'
import type { Observation } from './statuses.ts'

interface ProbersOptions {
  readonly snapshot: () => Snapshot
  readonly clock: Clock
  readonly dice: Dice
  readonly metrics: Metrics
  readonly evidence: Evidence
  /** See `Prober`. */
  readonly late?: () => void
  /** Called when an observation changed, or a node began or ceased to fail its probes. */
  readonly changed: () => void
}

interface Watched {
  /** Where the node is: another address is another server, of which nothing is known. */
  readonly address: string
  readonly prober: Prober
}

/** The probers of whoever looks after the fleet: exactly one per node that is not `off`. */
export class Probers {
  readonly #options: ProbersOptions
  readonly #watched = new Map<string, Watched>()
  /** Nodes whose last status, found at the start, is not what to begin with any more. */
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

  /** What is known of each node that is probed; null where that is nothing yet. */
  observations(): Map<string, Observation | null> {
    return new Map([...this.#watched].map(([name, { prober }]) => [name, prober.observation]))
  }

  /** The nodes to which no connection comes up now. */
  unreached(): ReadonlySet<string> {
    return new Set([...this.#watched].flatMap(([name, { prober }]) => (prober.isUnreached ? [name] : [])))
  }

  /** The same of what these probers saw themselves; null for nodes that none of them has probed. */
  ownObservations(): Map<string, Observation | null> {
    return new Map([...this.#watched].map(([name, { prober }]) => [name, prober.ownObservation]))
  }

  /** See `Prober.doubt`. */
  doubt(node: string): void {
    this.#watched.get(node)?.prober.doubt()
  }

  /** See `Prober.look`. */
  async look(node: string): Promise<void> {
    await this.#watched.get(node)?.prober.look()
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

/** A departed node is not: its agent, if that comes back, says how it is. */
function isProbed({ spec, departed }: NodeView): boolean {
  return spec.state !== 'off' && departed === null
}

/** What makes a node another server when it changes. */
export function addressOf({ url, tls, headers }: NodeSpec): string {
  return JSON.stringify([url, tls, headers])
}
