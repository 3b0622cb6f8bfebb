import type { Dice } from '../shared/loop.ts'
import type { Admission } from './admission.ts'
import type { Effect, RefusalReason } from './events.ts'
import type { Flights } from './flights.ts'
import { type Flow, flowOf } from './flow.ts'
import type { Lines } from './lines.ts'
import { cheapest, decisionOn, type Placement, promptOn } from './placement.ts'
import type { Chooser } from './policies.ts'
import type { Surroundings } from './predicted-end.ts'
import type { Runner } from './runner.ts'
import type { Swaps } from './swaps.ts'
import { planOn, type Terms, termsOf, unplan } from './terms.ts'
import type { Waiting } from './waiting.ts'

interface Parts {
  readonly around: Surroundings
  readonly lines: Lines
  readonly flights: Flights
  readonly swaps: Swaps
  readonly admission: Admission
  readonly chooser: Chooser | null
  readonly dice: Dice
}

/**
 * One look at the whole queue (sheet routing.md §2.4): in its order each request is given the place where it costs least,
 * as though all before it had theirs. Whoever's place is free now starts; the others hold, and so does their place.
 */
export class QueuePass {
  readonly #parts: Parts
  /** What the pass under way has decided. */
  #effects: Effect[] = []
  readonly #planned = new Set<Runner>()
  /** Swaps that it began, by model. */
  readonly #begun = new Map<string, number>()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  run(now: number): Effect[] {
    this.#effects = []
    this.#parts.lines.age(now)
    this.#expire(now)
    this.#advanceSwaps(now)
    if (this.#parts.chooser) this.#forward(this.#parts.chooser, now)
    else this.#plan(now)
    this.#judge(now)
    for (const runner of this.#planned) unplan(runner)
    this.#planned.clear()
    this.#begun.clear()
    // Those that have just begun may have nothing to wait for.
    this.#advanceSwaps(now)
    return this.#effects
  }

  #advanceSwaps(now: number): void {
    const { lines, swaps } = this.#parts
    this.#effects.push(...swaps.advance((model) => lines.ofModel(model) > 0, now))
  }

  /** Refuses whoever has waited too long. */
  #expire(now: number): void {
    const { lines, around } = this.#parts
    const { maxWaitS } = around.rules.admission
    for (let { oldest } = lines; oldest && now >= oldest.since + maxWaitS; { oldest } = lines)
      this.#refuse(oldest, 'waited-too-long', maxWaitS)
  }

  /** Sends everybody on at once, for nodes to queue. */
  #forward(choose: Chooser, now: number): void {
    const { lines, around } = this.#parts
    for (const waiting of [...lines.all()]) {
      const runners = around.fleet.candidatesFor(waiting.work)
      const runner = choose(runners)
      if (runner) this.#start(waiting, { runner, terms: termsOf(runner, around, now) }, runners, now)
      else this.#refuse(waiting, 'no-node', 0)
    }
  }

  /** The next requests in order; more of them when all of these could start. */
  #plan(now: number): void {
    const { lines, around } = this.#parts
    let started: boolean
    do {
      started = true
      for (const waiting of lines.first(around.rules.queue.window))
        if (!this.#place(waiting, now)) started = false
    } while (started && lines.length > 0)
  }

  /** Whether it left the queue. */
  #place(waiting: Waiting, now: number): boolean {
    const { around, dice } = this.#parts
    const runners = around.fleet.candidatesFor(waiting.work)
    if (runners.length === 0) return this.#refuse(waiting, 'no-node', 0)
    const best = cheapest(waiting, runners, around, dice, now)
    if (!best) {
      waiting.plan = null
      return false
    }
    if (best.terms.state === 'ready' || (best.terms.state === 'full' && !around.rules.uses.lateBinding))
      return this.#start(waiting, best, runners, now)
    this.#hold(waiting, best, now)
    return false
  }

  #start(waiting: Waiting, place: Placement, runners: readonly Runner[], now: number): true {
    const { lines, flights, admission, around } = this.#parts
    const { work } = waiting
    const decision = decisionOn(waiting, place, runners, around, now)
    lines.remove(work.id)
    flights.start(waiting, place.runner, decision, now)
    admission.waited(work.model, now - work.arrivedAt, now)
    this.#effects.push({ type: 'start', id: work.id, node: place.runner.node.name, decision })
    return true
  }

  /** Keeps the place for the request while this pass lasts, and has the model loaded where it is not. */
  #hold(waiting: Waiting, { runner, terms }: Placement, now: number): void {
    const { start } = terms
    waiting.plan = {
      node: runner.node.name,
      waitsFor: terms.state === 'full' ? 'slot' : 'load',
      startsAt: start,
    }
    const { eviction } = terms
    if (eviction && !this.#begin(runner, eviction, now)) return
    // The swap has begun: the runner's terms are others now, of the same start.
    const held = eviction ? termsOf(runner, this.#parts.around, now) : terms
    planOn(runner, held, held.start + durationOf(waiting, runner, held))
    this.#planned.add(runner)
  }

  /** Whether one more load of the model may begin in this pass. */
  #begin(runner: Runner, eviction: NonNullable<Terms['eviction']>, now: number): boolean {
    const { around, swaps } = this.#parts
    const begun = this.#begun.get(runner.model) ?? 0
    if (begun >= around.rules.swaps.perModel) return false
    this.#begun.set(runner.model, begun + 1)
    swaps.begin(runner, eviction, now)
    return true
  }

  /** Decides which newcomers may wait; the last ones to come are the first to go. */
  #judge(now: number): void {
    const { lines, admission } = this.#parts
    for (const waiting of lines.takeNewcomers()) {
      const { work } = waiting
      const runners = this.#parts.around.fleet.candidatesFor(work)
      if (runners.length === 0) {
        this.#refuse(waiting, 'no-node', 0)
        continue
      }
      const flow = flowOf(work, runners, this.#parts.around, now)
      const waitS = this.#waitS(waiting, flow, now)
      const ttftS = now - work.arrivedAt + waitS + work.promptTokens * flow.prefillPerToken
      const reason = admission.judge(waiting, lines, ttftS, now)
      if (reason) this.#refuse(waiting, reason, waitS)
    }
  }

  /** Predicted seconds until it starts: as planned, else by how fast its line moves. */
  #waitS({ work, plan }: Waiting, { perS, loadS }: Flow, now: number): number {
    if (plan) return Math.max(0, plan.startsAt - now)
    const ahead = this.#parts.lines.ofModel(work.model) - 1
    return loadS + (perS > 0 ? ahead / perS : 0)
  }

  #refuse({ work }: Waiting, reason: RefusalReason, waitS: number): true {
    const { lines, admission } = this.#parts
    lines.remove(work.id)
    this.#effects.push({ type: 'refuse', id: work.id, reason, retryAfterS: admission.retryAfterS(waitS) })
    return true
  }
}

/** Seconds that a request will have its slot for. */
function durationOf(waiting: Waiting, runner: Runner, terms: Terms): number {
  return promptOn(runner, waiting) * terms.prefillPerToken + waiting.output * terms.decodePerToken
}
