import { isBefore } from '../../../shared/versions.ts'
import { type Answer, answerTo } from '../dialects/answer.ts'
import type { Head, Writer } from '../dialects/dialect.ts'
import { type GeneratedPiece, type GenerationTimings, generate } from '../dialects/generation.ts'
import type { GenerateRequest } from '../dialects/request.ts'
import type { ModelDefinition } from '../disk/model-definition.ts'
import { parseName } from '../disk/model-name.ts'
import { fingerprintOf } from '../engine/fingerprint.ts'
import type { PacedRunner } from '../engine/paced-runner.ts'
import { enterSlot, type SlotLease } from '../engine/slots.ts'
import { countTokens, hashOf } from '../engine/tokens.ts'
import type { Machine, NodeExchange } from '../machine.ts'
import { childError, Refusal, RunnerFailure } from '../refusal.ts'

/** An image is worth this many tokens. */
const tokensPerImage = 768

/** The two native handlers that generate; the `/v1` routes call them. */
export interface GenerateEndpoint {
  readonly wording: 'chat' | 'generate'
  readonly writer: (head: Head) => Writer
  /** A request to think is accepted for a model that cannot think (docs/ollama.md#requests). */
  readonly relaxedThinking?: true
}

/** Answers one generating request from its acceptance to its last byte. @throws Refusal before the first byte. */
export async function infer(
  machine: Machine,
  exchange: NodeExchange,
  ask: GenerateRequest,
  endpoint: GenerateEndpoint,
): Promise<void> {
  const { runners, ledger, shelf, clock } = machine
  const { signal, reply, plan, id } = exchange
  const model = shelf.find(ask.model, endpoint.wording)
  const writer = endpoint.writer(headOf(machine, exchange, ask))
  if (ask.blank && ask.keepAliveMs === 0) {
    runners.unload(model)
    return reply.whole(200, writer.idle('unload', ask.stream))
  }
  refuseIncapable(model, ask, endpoint)
  using _flight = ledger.flight(model.name)
  using lease = await runners.acquire({
    model,
    fingerprint: fingerprintOf(ask.options, ask.shift),
    keepAliveMs: ask.keepAliveMs,
    signal,
    request: id,
    refuseQueue: plan.busy !== undefined,
  })
  const loadMs = clock.now() - exchange.arrivedAt
  if (ask.blank) return reply.whole(200, writer.idle('load', ask.stream))
  refuseUnfit(model, ask)
  const promptTokens = promptTokensOf(ask, lease.runner)
  using slot = await takeSlot(machine, exchange, lease.runner, ask.prompt)
  await new AnswerWriter(machine, exchange, ask, writer).answer(lease.runner, slot, { promptTokens, loadMs })
}

/** Waits for a slot of the runner; the ledger records the wait. */
export function takeSlot(
  { ledger }: Machine,
  { id, signal }: NodeExchange,
  runner: PacedRunner,
  prompt: string,
): Promise<SlotLease> {
  const { model, parallel } = runner.shape
  if (runner.slots.active >= parallel) ledger.record({ type: 'sem-wait', request: id, model: model.name })
  return enterSlot(runner.slots, prompt, signal)
}

/** Carries one answer from the runner to the client, as a stream or as a whole. */
class AnswerWriter {
  readonly #machine: Machine
  readonly #exchange: NodeExchange
  readonly #ask: GenerateRequest
  readonly #writer: Writer
  #spoken = 0

  constructor(machine: Machine, exchange: NodeExchange, ask: GenerateRequest, writer: Writer) {
    this.#machine = machine
    this.#exchange = exchange
    this.#ask = ask
    this.#writer = writer
  }

  async answer(
    runner: PacedRunner,
    slot: SlotLease,
    { promptTokens, loadMs }: { readonly promptTokens: number; readonly loadMs: number },
  ): Promise<void> {
    const { plan } = this.#exchange
    const planned = answerTo(runner.shape.model, this.#ask)
    const answer = plan.failure ? { ...planned, failure: plan.failure } : planned
    try {
      const timings = await this.#generate(runner, slot, promptTokens, answer)
      await this.#finish(answer, timings, loadMs)
    } catch (error) {
      if (!(error instanceof RunnerFailure) || !this.#exchange.reply.begun) throw error
      const lastWords = this.#writer.failure(error.message)
      if (lastWords !== '') await this.#exchange.reply.chunk(lastWords)
      this.#exchange.reply.end()
    }
  }

  #generate(
    runner: PacedRunner,
    slot: SlotLease,
    promptTokens: number,
    answer: Answer,
  ): Promise<GenerationTimings> {
    const { clock, speed, ledger } = this.#machine
    const { prompt } = this.#ask
    const { pacer } = this.#exchange
    const emit = (piece: GeneratedPiece) => this.#speak(piece, runner)
    const onCached = (tokens: number) => ledger.cached(tokens)
    return generate({ runner, slot, prompt, promptTokens, answer, clock, pacer, speed, emit, onCached })
  }

  #speak(piece: GeneratedPiece, runner: PacedRunner): Promise<void> | undefined {
    const { ledger } = this.#machine
    const { signal, reply, id } = this.#exchange
    signal.throwIfAborted()
    if (this.#spoken === 0) {
      ledger.record({ type: 'first-token', request: id, model: runner.shape.model.name })
      if (this.#ask.stream) this.#open()
    }
    this.#spoken++
    ledger.token()
    return this.#ask.stream ? reply.chunk(this.#writer.piece(piece)) : undefined
  }

  #open(): void {
    this.#exchange.reply.open(200, this.#writer.streamType, this.#writer.streamHeaders)
  }

  async #finish(answer: Answer, timings: GenerationTimings, loadMs: number): Promise<void> {
    const { reply, arrivedAt } = this.#exchange
    const totalMs = this.#machine.clock.now() - arrivedAt
    const outcome = { answer, timings, totalMs, loadMs, raw: this.#ask.raw }
    if (!this.#ask.stream) {
      return reply.whole(200, { type: this.#writer.wholeType, text: this.#writer.whole(outcome) })
    }
    if (!reply.begun) this.#open()
    const last = this.#writer.last(outcome)
    const spoken = this.#exchange.plan.unterminated ? withoutTerminator(last) : last
    if (spoken !== '') await reply.chunk(spoken)
    reply.end()
  }
}

/** The end of a stream without its last line or event. */
function withoutTerminator(text: string): string {
  const end = text.endsWith('\n\n') ? '\n\n' : '\n'
  const before = text.slice(0, -end.length).lastIndexOf(end)
  return before < 0 ? '' : text.slice(0, before + end.length)
}

function headOf(machine: Machine, exchange: NodeExchange, ask: GenerateRequest): Head {
  return {
    model: ask.model,
    id: hashOf(`${machine.seed} ${exchange.id}`) % 999,
    includeUsage: ask.includeUsage,
    logprobs: ask.logprobs,
    tellsCached: !isBefore(machine.version, '0.33.3'),
    promptTokens: countTokens(ask.prompt),
    date: () => machine.clock.date(),
  }
}

function refuseIncapable(model: ModelDefinition, ask: GenerateRequest, endpoint: GenerateEndpoint): void {
  const asked = JSON.stringify(ask.model)
  if (ask.think === true && !endpoint.relaxedThinking && !model.capabilities.includes('thinking')) {
    throw new Refusal(400, `${asked} does not support thinking`)
  }
  if (!model.capabilities.includes('completion'))
    throw new Refusal(400, `${asked} does not support ${endpoint.wording}`)
  const missing = ask.capabilities.filter((capability) => !model.capabilities.includes(capability))
  if (missing.length > 0) {
    throw new Refusal(400, `${parseName(model.name)?.full} does not support ${missing.join('\n')}`)
  }
}

/** Refuses what Ollama's runner refuses once the model is loaded. */
function refuseUnfit({ capabilities }: ModelDefinition, { unfit, images }: GenerateRequest): void {
  if (unfit) throw unfit
  if (images > 0 && !capabilities.includes('vision')) {
    throw childError(
      500,
      'image input is not supported - hint: if this is unexpected, you may need to provide the mmproj',
    )
  }
}

/** Ollama drops old messages until the prompt fits, unless the request forbids it: then the child's own error comes out. */
function promptTokensOf(ask: GenerateRequest, runner: PacedRunner): number {
  const tokens = countTokens(ask.prompt) + tokensPerImage * ask.images
  const { ctx } = runner.shape
  if (tokens <= ctx || ask.truncate) return Math.min(tokens, ctx)
  const message = `request (${tokens} tokens) exceeds the available context size (${ctx} tokens), try increasing it`
  const error = { code: 400, message, type: 'exceed_context_size_error', n_prompt_tokens: tokens, n_ctx: ctx }
  throw new Refusal(400, JSON.stringify({ error }))
}
