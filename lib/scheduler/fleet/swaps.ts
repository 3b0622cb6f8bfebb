import type { Effect, SchedulerEvent } from '../events.ts'
import type { Parameters } from '../parameters.ts'
import type { FleetState } from './fleet-state.ts'
import type { NodeState } from './node-state.ts'
import type { Runner, Swap } from './runner.ts'

type Swapped = Extract<SchedulerEvent, { type: 'swapped' }>

/**
 * Swaps under way, one per node. Marked victims get no new requests; once their requests have ended, the load is requested;
 * `swapped` reports its end. So Ollama never has to evict by itself, which may hang it (docs/routing.md#loads).
 */
export class Swaps {
  readonly #fleet: FleetState
  readonly #parameters: Parameters['swaps']
  readonly #nodes = new Set<NodeState>()

  constructor(fleet: FleetState, parameters: Parameters['swaps']) {
    this.#fleet = fleet
    this.#parameters = parameters
  }

  /** Whether victims still run requests: such a swap may end by time alone. */
  get isDraining(): boolean {
    for (const { swap } of this.#nodes) if (swap && swap.requestedAt === null) return true
    return false
  }

  begin(runner: Runner, victims: readonly Runner[], now: number): void {
    const node = this.#fleet.node(runner.node.name)
    if (!node) return
    node.beginSwap(runner, victims, now)
    this.#nodes.add(node)
  }

  /** Requests the loads whose victims run no requests. Gives up swaps that take too long, or that no request waits for. */
  advance(isWanted: (model: string) => boolean, now: number): Effect[] {
    const effects: Effect[] = []
    for (const node of this.#nodes) {
      const { swap } = node
      if (!swap || this.#fleet.node(node.name) !== node) this.#nodes.delete(node)
      else if (swap.requestedAt === null) this.#drain(node, swap, isWanted, effects, now)
    }
    return effects
  }

  swapped({ node: name, model, ok, loadS: tookS, kept = [], isBusy = false }: Swapped, now: number): void {
    const node = this.#fleet.node(name)
    const swap = node?.swap
    if (!node || !swap || swap.requestedAt === null || swap.runner.model !== model) return
    if (ok) swap.runner.pace.node.loaded(node.facts.models.get(model) ?? 0, tookS)
    node.swapped(ok, kept, this.#fleet.size(swap.runner), now)
    if (!ok && !isBusy) node.pause(swap.runner, kept.length === 0, now)
    this.#fleet.residencyChanged()
  }

  #drain(
    node: NodeState,
    swap: Swap,
    isWanted: (model: string) => boolean,
    effects: Effect[],
    now: number,
  ): void {
    const { model, variant } = swap.runner
    const isOverdue = now >= swap.since + this.#parameters.drainS
    if (isOverdue) node.pause(swap.runner, false, now)
    if (isOverdue || !node.facts.available || !isWanted(model)) {
      node.endSwap()
      return
    }
    if (swap.victims.some(({ inFlight }) => inFlight.size > 0)) return
    node.loadRequested(now)
    const victims = swap.victims.map((victim) => victim.model)
    effects.push({ type: 'swap', node: node.name, victims, model, variant, loadS: swap.runner.loadS })
  }
}
