import { jsonType, jsonUtf8Type } from '../dialects/dialect.ts'
import { promptMsPerToken } from '../dialects/generation.ts'
import { type EmbedOutcome, embedBody } from '../dialects/native.ts'
import { embeddingListBody } from '../dialects/openai.ts'
import { fingerprintOf, keepAliveMs } from '../engine/fingerprint.ts'
import { countTokens, embeddingOf } from '../engine/tokens.ts'
import { Fields } from '../json.ts'
import type { Machine, NodeExchange } from '../machine.ts'
import { Refusal, RunnerFailure } from '../refusal.ts'
import { takeSlot } from './inference.ts'

/** A request for embeddings, the same for every endpoint. */
interface EmbedRequest {
  readonly model: string
  readonly input: readonly string[]
  readonly keepAliveMs: number | null
  readonly options: Readonly<Record<string, unknown>>
  readonly truncate: boolean
  /** 0: as many as the model has. */
  readonly dimensions: number
  readonly base64: boolean
}

/** The body of `/api/embed`. @throws Refusal 400. */
export function readEmbed(body: unknown): EmbedRequest {
  const fields = new Fields(body, 'EmbedRequest')
  return {
    ...nativePart(fields),
    input: textsOf(fields.raw('input'), 'invalid input type'),
    truncate: fields.flag('truncate') ?? true,
    dimensions: fields.number('dimensions') ?? 0,
  }
}

/** The body of `/api/embeddings`: one prompt. @throws Refusal 400. */
export function readEmbeddings(body: unknown): EmbedRequest {
  const fields = new Fields(body, 'EmbeddingRequest')
  const prompt = fields.text('prompt')
  return { ...nativePart(fields), input: prompt === '' ? [] : [prompt], truncate: true, dimensions: 0 }
}

/** The body of `/v1/embeddings`. @throws Refusal 400. */
export function readEmbeddingList(body: unknown): EmbedRequest {
  const fields = new Fields(body, 'EmbedRequest')
  const encoding = fields.text('encoding_format')
  if (!['', 'float', 'base64'].includes(encoding.toLowerCase())) {
    throw new Refusal(
      400,
      `Invalid value for 'encoding_format' = ${encoding}. Supported values: ['float', 'base64'].`,
    )
  }
  const given = fields.raw('input')
  const input = given === '' ? [''] : textsOf(given, 'invalid input')
  if (input.length === 0) throw new Refusal(400, 'invalid input')
  return {
    model: fields.text('model'),
    input,
    keepAliveMs: null,
    options: {},
    truncate: true,
    dimensions: fields.number('dimensions') ?? 0,
    base64: encoding.toLowerCase() === 'base64',
  }
}

/** `/api/embed`: a failure of the runner is a 400 here (docs/ollama.md#answers). */
export async function embed(machine: Machine, exchange: NodeExchange, ask: EmbedRequest): Promise<void> {
  const { vectors, outcome } = await failingAs(400, compute(machine, exchange, ask, 'embed'))
  await exchange.reply.whole(200, { type: jsonUtf8Type, text: embedBody(ask.model, vectors, outcome) })
}

export async function embeddings(machine: Machine, exchange: NodeExchange, ask: EmbedRequest): Promise<void> {
  const { vectors } = await compute(machine, exchange, ask, 'embeddings')
  const text = JSON.stringify({ embedding: vectors[0] ?? [] })
  await exchange.reply.whole(200, { type: jsonUtf8Type, text })
}

export async function embeddingList(
  machine: Machine,
  exchange: NodeExchange,
  ask: EmbedRequest,
): Promise<void> {
  const { vectors, outcome } = await failingAs(400, compute(machine, exchange, ask, 'embed'))
  const text = embeddingListBody(ask.model, vectors, outcome.promptTokens, ask.base64)
  await exchange.reply.whole(200, { type: jsonType, text })
}

interface Computed {
  readonly vectors: readonly number[][]
  readonly outcome: EmbedOutcome
}

const nothing: Computed = { vectors: [], outcome: { totalMs: 0, loadMs: 0, promptTokens: 0 } }

const noEmbeddings = 'This server does not support embeddings. Start it with `--embeddings`'
const crashedText = 'do embedding request: Post "http://127.0.0.1:34567/embedding": EOF'

async function compute(
  machine: Machine,
  exchange: NodeExchange,
  ask: EmbedRequest,
  wording: 'embed' | 'embeddings',
): Promise<Computed> {
  const { clock, ledger, runners, shelf, speed } = machine
  const model = shelf.find(ask.model, wording)
  using _flight = ledger.flight(model.name)
  using lease = await runners.acquire({
    model,
    fingerprint: fingerprintOf(ask.options, true),
    keepAliveMs: ask.keepAliveMs,
    signal: exchange.signal,
    request: exchange.id,
    refuseQueue: exchange.plan.busy !== undefined,
  })
  const loadMs = clock.now() - exchange.arrivedAt
  if (ask.input.length === 0) return nothing
  const tokens = ask.input.map((text) => tokensOf(text, lease.runner.shape.ctx, ask.truncate))
  const promptTokens = tokens.reduce((sum, count) => sum + count, 0)
  using _slot = await takeSlot(machine, exchange, lease.runner, '')
  if (exchange.plan.failure) throw new RunnerFailure(exchange.plan.failure.text)
  // Ollama starts the runner of a model that writes without its embedding routes.
  if (!model.capabilities.includes('embedding'))
    throw new Refusal(wording === 'embed' ? 501 : 500, noEmbeddings)
  const promptMs = promptTokens * promptMsPerToken(lease.runner, speed)
  if (promptMs > 0) await exchange.pacer.wait(promptMs)
  if (lease.runner.crashed) throw new RunnerFailure(crashedText)
  // Ollama ignores a number that is not positive (EmbedHandler in server/routes.go).
  const dimensions = Math.min(ask.dimensions > 0 ? ask.dimensions : model.embedDim, model.embedDim)
  const vectors = ask.input.map((text) => embeddingOf(text, dimensions))
  return { vectors, outcome: { totalMs: clock.now() - exchange.arrivedAt, loadMs, promptTokens } }
}

function tokensOf(text: string, ctx: number, truncate: boolean): number {
  const tokens = countTokens(text)
  if (tokens > ctx && !truncate) throw new Refusal(400, 'the input length exceeds the context length')
  return Math.min(tokens, ctx)
}

async function failingAs<T>(status: number, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw error instanceof RunnerFailure ? new Refusal(status, error.message) : error
  }
}

function nativePart(fields: Fields) {
  return {
    model: fields.text('model'),
    keepAliveMs: keepAliveMs(fields.raw('keep_alive')),
    options: fields.record('options'),
    base64: false,
  }
}

function textsOf(value: unknown, complaint: string): string[] {
  if (value === undefined || value === '') return []
  const texts = Array.isArray(value) ? value : [value]
  if (!texts.every((text) => typeof text === 'string')) throw new Refusal(400, complaint)
  return texts
}
