import type { Runner } from '../fleet/runner.ts'
import { Candidates } from './candidates.ts'
import type { CostContext } from './cost-context.ts'
import type { RunnerCost } from './cost-table.ts'

/** Lists of so many variants are kept: callers choose the variants. */
const listsKept = 1000

/** The candidates of each variant. A list lasts until something comes into memory or leaves it. */
export class CandidateLists {
  readonly #context: CostContext
  /** By model, then by variant. */
  readonly #lists = new Map<string, Map<string, Candidates>>()
  #count = 0
  /** The fleet's residency stamp that the lists belong to. */
  #stamp = 0
  /** A runner may be in the lists of several variants, and its costs outlast its lists. */
  readonly #costs = new WeakMap<Runner, RunnerCost>()

  constructor(context: CostContext) {
    this.#context = context
  }

  /** The candidates of a variant, with their costs as of now. */
  of({ model, variant }: { readonly model: string; readonly variant: string }, now: number): Candidates {
    if (this.#stamp !== this.#context.fleet.residencyStamp) this.#forget()
    const list = this.#lists.get(model)?.get(variant) ?? this.#make(model, variant, now)
    list.refresh(now)
    return list
  }

  #make(model: string, variant: string, now: number): Candidates {
    const { fleet } = this.#context
    if (this.#count >= listsKept) {
      this.#forget()
      fleet.unfollow()
    }
    const runners = fleet.runners(model, variant)
    const costs = runners.map((runner) => this.#costOf(runner))
    const list = new Candidates({ runners, costs, context: this.#context }, now)
    const byVariant = this.#lists.get(model) ?? new Map<string, Candidates>()
    this.#lists.set(model, byVariant.set(variant, list))
    this.#count++
    return list
  }

  #costOf(runner: Runner): RunnerCost {
    const known = this.#costs.get(runner)
    if (known) return known
    const cost = { terms: null, planned: null }
    this.#costs.set(runner, cost)
    return cost
  }

  #forget(): void {
    this.#lists.clear()
    this.#count = 0
    this.#stamp = this.#context.fleet.residencyStamp
  }
}
