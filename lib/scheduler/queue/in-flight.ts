import { ChurnMap } from '../../shared/churn-map.ts'
import { batchS, restOf, slowBytes } from '../cost/completion.ts'
import type { CostContext } from '../cost/cost-context.ts'
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

/** A batch may take so many times longer than expected and still explain a wait. */
const batchTimes = 2
/** More seconds than a small prompt takes to be read. */
const leastReadS = 0.25

/** Seconds after which a request has reached its node. */
const leastSentS = 0.01

interface AccountedRequest extends InFlightRequest {
  /** Tokens that its tenant was charged. */
  readonly charged: number
  readonly entry: DecisionEntry
}

/** Requests in flight, from start to end, and what is learned from them. */
export class InFlight {
  readonly #context: CostContext
  readonly #parameters: Parameters
  readonly #queue: FairQueue
  readonly #tenants: Tenants
  readonly #prefixIndex: PrefixIndex
  readonly #log: DecisionLog
  readonly #byId = new ChurnMap<string, AccountedRequest>()
  readonly #abandoned = new AbandonedPrompts()

  constructor(
    context: CostContext,
    lines: FairQueue,
    tenants: Tenants,
    prefixes: PrefixIndex,
    log: DecisionLog,
  ) {
    this.#context = context
    this.#parameters = context.parameters
    this.#queue = lines
    this.#tenants = tenants
    this.#prefixIndex = prefixes
    this.#log = log
  }

  has(id: string): boolean {
    return this.#byId.has(id)
  }

  start(entry: QueueEntry, runner: Runner, decision: Decision, now: number): void {
    const { request, cachedTokens } = entry
    const charged = charge(entry, this.#parameters)
    this.#tenants.began(this.#tenants.account(request.tenant), charged)
    const inFlight: AccountedRequest = {
      request,
      runner,
      decision,
      charged,
      startedAt: now,
      prefillS: decision.candidates[0]?.prefill ?? 0,
      cached: cachedTokens.get(runner) ?? 0,
      streams: runner.inFlight.size + 1,
      isReading: request.embeds || request.streams === true,
      readers: runner.time.readers,
      joinedAt: Number.POSITIVE_INFINITY,
      otherPromptS: 0,
      begunWith: runner.time.read(now),
      wroteWith: null,
      entry: this.#log.sent(request, decision),
      firstTokenAt: null,
      tokens: 0,
      toldAt: now,
      rest: entry.output,
    }
    for (const other of runner.inFlight.values()) {
      if (mayRead(other, now)) joins(inFlight, other, now)
      if (other.firstTokenAt === null) joins(other, inFlight, now)
    }
    this.#byId.set(request.id, inFlight)
    runner.node.began(inFlight)
  }

  firstToken(id: string, now: number): void {
    const inFlight = this.#byId.get(id)
    if (!inFlight || inFlight.firstTokenAt !== null) return
    this.#log.begun(inFlight.entry, now - inFlight.request.arrivedAt)
    this.#begin(inFlight, now)
  }

  tokens(id: string, tokens: number, now: number): void {
    const inFlight = this.#byId.get(id)
    if (!inFlight || !(tokens > inFlight.tokens)) return
    this.firstToken(id, now)
    // Some of the tokens may have arrived right after the last report.
    this.#abandoned.answered(inFlight.runner, inFlight.toldAt, now)
    inFlight.tokens = tokens
    inFlight.toldAt = now
    inFlight.rest = restOf(inFlight.request, tokens, this.#context.learning)
    inFlight.runner.node.touch()
  }

  /** A request ended. Only a complete answer is learned from: a node that fails fast is not fast (docs/routing.md#learning). */
  end(id: string, { timings: told, written }: RequestEnd, now: number): void {
    const inFlight = this.#byId.get(id)
    if (!inFlight) return
    const timings = timingsOf(inFlight, told, written, now)
    const tokens = timings?.outputTokens ?? written
    if (tokens !== undefined && inFlight.firstTokenAt === null) this.#beginWhole(inFlight, timings, now)
    if (timings) this.#learn(inFlight, timings, now)
    if (told) this.#learnSlots(inFlight, told, now)
    this.#log.over(inFlight.entry, tokens === undefined ? 'failed' : 'answered')
    this.#finish(inFlight, now, tokens)
  }

  /** The caller disconnected before the end. */
  left(id: string, now: number): void {
    const inFlight = this.#byId.get(id)
    if (!inFlight) return
    this.#log.over(inFlight.entry, 'left')
    this.#finish(inFlight, now)
    if (inFlight.firstTokenAt === null) this.#abandoned.keep(inFlight, this.#readingS(inFlight, now), now)
  }

  /** Frees the slots of abandoned prompts that their nodes have finished by now. */
  settle(now: number): void {
    this.#abandoned.settle(now)
  }

  /** When the next of those slots will be free, in monotonic seconds; Infinity: none. */
  get settlesAt(): number {
    return this.#abandoned.endsAt
  }

  /** Seconds for which the node continues to read an abandoned prompt: to the end of the batch, or of the prompt. */
  #readingS({ runner, request, startedAt, prefillS }: InFlightRequest, now: number): number {
    const leftS = startedAt + prefillS - now
    // It may not have reached its node.
    if (now - startedAt < leastSentS) return 0
    // An overdue prompt will probably take as long again. If the answer comes whole, the prompt may have been read already.
    const needS = request.streams || request.embeds ? Math.abs(leftS) : leftS
    return Math.min(needS, batchS(runner, this.#context))
  }

  /** The node had no slot for a request. */
  refused(id: string, now: number): void {
    const inFlight = this.#byId.get(id)
    if (!inFlight) return
    const { pace, node, inFlight: running } = inFlight.runner
    pace.slots.refused({ startedAt: inFlight.startedAt, running: running.size }, node.facts.slots, now)
    this.#log.over(inFlight.entry, 'busy')
    this.#finish(inFlight, now)
  }

  /** An answer came whole: only the node's timings show when the first token was written. */
  #beginWhole(inFlight: AccountedRequest, timings: Timings | null, now: number): void {
    const { entry, startedAt, request } = inFlight
    if (timings && (!timings.fromOutside || request.embeds))
      this.#log.begun(entry, startedAt - request.arrivedAt + timings.total - timings.eval)
    this.#begin(inFlight, now)
  }

  #begin(inFlight: AccountedRequest, now: number): void {
    inFlight.firstTokenAt = now
    this.#abandoned.answered(inFlight.runner, now, now)
    inFlight.toldAt = now
    this.#prefixIndex.add(inFlight.request, inFlight.runner)
    inFlight.runner.node.wrote(inFlight, now)
  }

  /** Removes a request. Its tenant pays for what was read and written, even if the caller disconnected. */
  #finish(inFlight: AccountedRequest, now: number, written = inFlight.tokens): void {
    const { request, runner, charged, firstTokenAt } = inFlight
    const used =
      firstTokenAt === null ? 0 : request.promptTokens + this.#parameters.queue.outputWeight * written
    this.#byId.delete(request.id)
    runner.node.ended(inFlight, now)
    this.#tenants.ended(this.#tenants.account(request.tenant), used - charged)
  }

  #learn(inFlight: AccountedRequest, timings: Timings, now: number): void {
    const { request, runner } = inFlight
    const { node, pace } = runner
    const bytes = slowBytes(runner, this.#context)
    const { begunWith, wroteWith } = inFlight
    const endsWith = runner.time.read(now)
    if (!request.embeds) {
      this.#context.learning.answered(request.tenant, request.model, timings.outputTokens)
      const contention = contentionOf(wroteWith ?? begunWith, endsWith)
      pace.decoded(timings.outputTokens, timings.eval, contention, bytes)
    }
    const contention = contentionOf(begunWith, wroteWith ?? endsWith)
    pace.prefilled(promptRead(inFlight, timings), timings.promptEval, contention, bytes)
    pace.node.loaded(node.facts.models.get(request.model) ?? 0, timings.load)
  }

  /** Learns slots from the wait on the node: the total minus load, prefill and decode. */
  #learnSlots(
    { request, runner, streams, startedAt, joinedAt, otherPromptS }: AccountedRequest,
    told: Timings,
    now: number,
  ): void {
    if (told.fromOutside) return
    const nodeWaitS = told.total - told.load - told.promptEval - told.eval
    const mostS = batchTimes * Math.min(batchS(runner, this.#context), otherPromptS)
    const batchWaitS = joinedAt <= startedAt + nodeWaitS ? mostS : 0
    const isWanted = this.#queue.ofModel(request.model) > 0
    const completion = { nodeWaitS, batchWaitS, streams, isWanted }
    runner.pace.slots.completed(completion, runner.node.facts.slots, now)
  }
}

/** Whether its prompt may still be read. Nothing reports the end of reading if the answer comes whole. */
function mayRead({ isReading, request, startedAt, prefillS }: InFlightRequest, now: number): boolean {
  return isReading || (!request.streams && now < startedAt + 2 * prefillS + leastReadS)
}

/** The prompt of `other` is read while the first request waits or reads its own. */
function joins(inFlight: InFlightRequest, other: InFlightRequest, now: number): void {
  inFlight.joinedAt = Math.min(inFlight.joinedAt, now)
  inFlight.otherPromptS = Math.max(inFlight.otherPromptS, other.prefillS)
}

/** The plausible part of the timings; null: nothing to learn from. */
function timingsOf(
  inFlight: InFlightRequest,
  told: Timings | null,
  written: number | undefined,
  now: number,
) {
  const { request, startedAt, firstTokenAt } = inFlight
  const seen = {
    totalS: now - startedAt,
    readS: firstTokenAt === null ? null : firstTokenAt - startedAt,
    writeS: firstTokenAt === null ? null : now - firstTokenAt,
    promptTokens: request.promptTokens,
    maxTokens: request.maxTokens,
  }
  if (told) return plausibleTimings(told, seen)
  return request.embeds && written !== undefined ? embeddingTimings(seen) : null
}

/** A node that counts only evaluated tokens does not report the length of the prompt: our estimate replaces it. */
function promptRead({ request, cached, runner, wroteWith, readers }: InFlightRequest, timings: Timings) {
  const { promptTokens, cachedTokens } = timings
  const { countsEvaluated } = runner.node.facts
  const told = cachedTokens === undefined ? null : Math.max(0, promptTokens - cachedTokens)
  return {
    tokens: countsEvaluated ? request.promptTokens : promptTokens,
    expected: cached,
    evaluated: countsEvaluated ? promptTokens : told,
    readers: wroteWith ? readers : null,
  }
}
