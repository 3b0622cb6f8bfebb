import { ChurnMap } from '../../shared/churn-map.ts'
import { batchS, restOf, slowBytes } from '../cost/completion.ts'
import type { CostContext } from '../cost/context.ts'
import type { PrefixIndex } from '../cost/prefix-index.ts'
import type { DecisionEntry, DecisionLog } from '../decision-log.ts'
import type { Decision, RequestEnd, Timings } from '../events.ts'
import type { InFlightRequest, Runner } from '../fleet/runner.ts'
import { contentionOf } from '../learning/contention.ts'
import { embeddingTimings, plausibleTimings } from '../learning/plausible-timings.ts'
import type { Parameters } from '../parameters.ts'
import type { QueueEntry } from '../queue-entry.ts'
import { AbandonedPrompts } from './abandoned-prompts.ts'
import type { FairQueue } from './fair-queue.ts'
import { charge } from './queue-order.ts'
import type { Tenants } from './tenants.ts'

/** Batches are not alike: a wait is explained by one that takes so many times as long as expected. */
const batchTimes = 2
/** Longer than the prompt of a small request takes to be read. */
const leastReadS = 0.25

/** A request is with its node after so many seconds. */
const leastSentS = 0.01

interface Airborne extends InFlightRequest {
  /** What its tenant was charged. */
  readonly charged: number
  readonly entry: DecisionEntry
}

/** What runs, from its start to its end, and what is learned from it. */
export class InFlight {
  readonly #context: CostContext
  readonly #rules: Parameters
  readonly #lines: FairQueue
  readonly #tenants: Tenants
  readonly #prefixes: PrefixIndex
  readonly #log: DecisionLog
  readonly #byId = new ChurnMap<string, Airborne>()
  readonly #abandoned = new AbandonedPrompts()

  constructor(
    context: CostContext,
    lines: FairQueue,
    tenants: Tenants,
    prefixes: PrefixIndex,
    log: DecisionLog,
  ) {
    this.#context = context
    this.#rules = context.rules
    this.#lines = lines
    this.#tenants = tenants
    this.#prefixes = prefixes
    this.#log = log
  }

  has(id: string): boolean {
    return this.#byId.has(id)
  }

  start(waiting: QueueEntry, runner: Runner, decision: Decision, now: number): void {
    const { work, hits } = waiting
    const charged = charge(waiting, this.#rules)
    this.#tenants.began(this.#tenants.account(work.tenant), charged)
    const flight: Airborne = {
      work,
      runner,
      decision,
      charged,
      startedAt: now,
      prefillS: decision.candidates[0]?.prefill ?? 0,
      cached: hits.get(runner) ?? 0,
      streams: runner.flights.size + 1,
      isReading: work.embeds || work.streams === true,
      readers: runner.time.readers,
      joinedAt: Number.POSITIVE_INFINITY,
      besideS: 0,
      begunWith: runner.time.read(now),
      wroteWith: null,
      entry: this.#log.sent(work, decision),
      firstTokenAt: null,
      tokens: 0,
      toldAt: now,
      rest: waiting.output,
    }
    for (const other of runner.flights.values()) {
      if (mayRead(other, now)) joins(flight, other, now)
      if (other.firstTokenAt === null) joins(other, flight, now)
    }
    this.#byId.set(work.id, flight)
    runner.node.began(flight)
  }

  firstToken(id: string, now: number): void {
    const flight = this.#byId.get(id)
    if (!flight || flight.firstTokenAt !== null) return
    this.#log.begun(flight.entry, now - flight.work.arrivedAt)
    this.#begin(flight, now)
  }

  tokens(id: string, tokens: number, now: number): void {
    const flight = this.#byId.get(id)
    if (!flight || !(tokens > flight.tokens)) return
    this.firstToken(id, now)
    // Some of the tokens may have come right after the last report.
    this.#abandoned.answered(flight.runner, flight.toldAt, now)
    flight.tokens = tokens
    flight.toldAt = now
    flight.rest = restOf(flight.work, tokens, this.#context.learning)
    flight.runner.node.touch()
  }

  /** It is over. Only an answer that was finished teaches anything: who fails fast is not fast (docs/routing.md#learning). */
  end(id: string, { timings: told, written }: RequestEnd, now: number): void {
    const flight = this.#byId.get(id)
    if (!flight) return
    const timings = timingsOf(flight, told, written, now)
    const tokens = timings?.outputTokens ?? written
    if (tokens !== undefined && flight.firstTokenAt === null) this.#beginWhole(flight, timings, now)
    if (timings) this.#learn(flight, timings, now)
    if (told) this.#learnSlots(flight, told, now)
    this.#log.over(flight.entry, tokens === undefined ? 'failed' : 'answered')
    this.#land(flight, now, tokens)
  }

  /** Its caller did not wait for the end. */
  left(id: string, now: number): void {
    const flight = this.#byId.get(id)
    if (!flight) return
    this.#log.over(flight.entry, 'left')
    this.#land(flight, now)
    if (flight.firstTokenAt === null) this.#abandoned.keep(flight, this.#readingS(flight, now), now)
  }

  /** Gives back the slots that were kept for prompts without a caller, where their nodes are done with them by now. */
  settle(now: number): void {
    this.#abandoned.settle(now)
  }

  /** When the next of those slots will be given back, in monotonic seconds; Infinity: there is none. */
  get settlesAt(): number {
    return this.#abandoned.endsAt
  }

  /** Seconds for which the node goes on reading a prompt without a caller: to the end of the batch, or of the prompt. */
  #readingS({ runner, work, startedAt, prefillS }: InFlightRequest, now: number): number {
    const leftS = startedAt + prefillS - now
    // Its node may not have seen it.
    if (now - startedAt < leastSentS) return 0
    // One that takes longer than predicted is likely to take as long again; of a whole answer nobody knows that it still does.
    const needS = work.streams || work.embeds ? Math.abs(leftS) : leftS
    return Math.min(needS, batchS(runner, this.#context))
  }

  /** The node had no slot for it. */
  refused(id: string, now: number): void {
    const flight = this.#byId.get(id)
    if (!flight) return
    const { pace, node, flights } = flight.runner
    pace.slots.refused({ startedAt: flight.startedAt, running: flights.size }, node.facts.slots, now)
    this.#log.over(flight.entry, 'busy')
    this.#land(flight, now)
  }

  /** An answer that came whole: only the node can tell when its first token was written. */
  #beginWhole(flight: Airborne, timings: Timings | null, now: number): void {
    const { entry, startedAt, work } = flight
    if (timings && (!timings.fromOutside || work.embeds))
      this.#log.begun(entry, startedAt - work.arrivedAt + timings.total - timings.eval)
    this.#begin(flight, now)
  }

  #begin(flight: Airborne, now: number): void {
    flight.firstTokenAt = now
    this.#abandoned.answered(flight.runner, now, now)
    flight.toldAt = now
    this.#prefixes.read(flight.work, flight.runner)
    flight.runner.node.wrote(flight, now)
  }

  /** Forgets it. A tenant pays for what was read and written, also when the caller left. */
  #land(flight: Airborne, now: number, written = flight.tokens): void {
    const { work, runner, charged, firstTokenAt } = flight
    const used = firstTokenAt === null ? 0 : work.promptTokens + this.#rules.queue.outputWeight * written
    this.#byId.delete(work.id)
    runner.node.ended(flight, now)
    this.#tenants.ended(this.#tenants.account(work.tenant), used - charged)
  }

  #learn(flight: Airborne, timings: Timings, now: number): void {
    const { work, runner } = flight
    const { node, pace } = runner
    const bytes = slowBytes(runner, this.#context)
    const { begunWith, wroteWith } = flight
    const endsWith = runner.time.read(now)
    if (!work.embeds) {
      this.#context.learning.answered(work.tenant, work.model, timings.outputTokens)
      const company = contentionOf(wroteWith ?? begunWith, endsWith)
      pace.decoded(timings.outputTokens, timings.eval, company, bytes)
    }
    const company = contentionOf(begunWith, wroteWith ?? endsWith)
    pace.prefilled(promptRead(flight, timings), timings.promptEval, company, bytes)
    pace.node.loaded(node.facts.models.get(work.model) ?? 0, timings.load)
  }

  /** The rest of the total is a wait on the node. */
  #learnSlots(
    { work, runner, streams, startedAt, joinedAt, besideS }: Airborne,
    told: Timings,
    now: number,
  ): void {
    if (told.fromOutside) return
    const nodeWaitS = told.total - told.load - told.promptEval - told.eval
    const mostS = batchTimes * Math.min(batchS(runner, this.#context), besideS)
    const batchWaitS = joinedAt <= startedAt + nodeWaitS ? mostS : 0
    const isWanted = this.#lines.ofModel(work.model) > 0
    const completion = { nodeWaitS, batchWaitS, streams, isWanted }
    runner.pace.slots.completed(completion, runner.node.facts.slots, now)
  }
}

/** Whether its prompt may be read by now. Of an answer that comes whole nothing tells when that is over. */
function mayRead({ isReading, work, startedAt, prefillS }: InFlightRequest, now: number): boolean {
  return isReading || (!work.streams && now < startedAt + 2 * prefillS + leastReadS)
}

/** The other's prompt is read while the first request waits or has its own read. */
function joins(flight: InFlightRequest, other: InFlightRequest, now: number): void {
  flight.joinedAt = Math.min(flight.joinedAt, now)
  flight.besideS = Math.max(flight.besideS, other.prefillS)
}

/** As far as they can be true; null where there are none to learn from. */
function timingsOf(flight: InFlightRequest, told: Timings | null, written: number | undefined, now: number) {
  const { work, startedAt, firstTokenAt } = flight
  const seen = {
    totalS: now - startedAt,
    readS: firstTokenAt === null ? null : firstTokenAt - startedAt,
    writeS: firstTokenAt === null ? null : now - firstTokenAt,
    promptTokens: work.promptTokens,
    maxTokens: work.maxTokens,
  }
  if (told) return plausibleTimings(told, seen)
  return work.embeds && written !== undefined ? embeddingTimings(seen) : null
}

/** A node that counts only what it evaluates does not tell how long the prompt was: we know that about as well. */
function promptRead({ work, cached, runner, wroteWith, readers }: InFlightRequest, timings: Timings) {
  const { promptTokens, cachedTokens } = timings
  const { countsEvaluated } = runner.node.facts
  const told = cachedTokens === undefined ? null : Math.max(0, promptTokens - cachedTokens)
  return {
    tokens: countsEvaluated ? work.promptTokens : promptTokens,
    expected: cached,
    evaluated: countsEvaluated ? promptTokens : told,
    readers: wroteWith ? readers : null,
  }
}
