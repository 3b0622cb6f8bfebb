import { seededRandom } from '../../../shared/random.ts'
import type { ModelDefinition, ToolCall } from '../disk/model-definition.ts'
import { hashOf, piecesOf } from '../engine/tokens.ts'
import { isRecord } from '../json.ts'
import type { GenerateRequest } from './request.ts'

/** What the model is going to say, decided before the first token is computed. One piece is one token. */
export interface Answer {
  readonly thinking: readonly string[]
  readonly content: readonly string[]
  readonly toolCall: ToolCall | null
  readonly doneReason: 'stop' | 'length'
  /** Where the runner fails, or null. */
  readonly failure: PlannedFailure | null
}

/** The runner fails with `text` after that many tokens. */
export interface PlannedFailure {
  readonly after: number
  readonly text: string
}

const failureText = 'an error was encountered while running the model: simulated failure'

/**
 * The answer of `model` to `ask`, the same on every node. The request option `x_fake` (`outTokens`, `thinkTokens`,
 * `toolCall`, `failAt`) overrides the model: real Ollama ignores unknown options, so a proxy has to pass it on.
 */
export function answerTo(model: ModelDefinition, ask: GenerateRequest): Answer {
  const wish = wishOf(ask)
  const toolCall = ask.capabilities.includes('tools') ? (wish.toolCall ?? model.toolCall ?? null) : null
  const thinks = model.capabilities.includes('thinking') && ask.think !== false
  const thinking = thinks ? filler(model.name, wish.thinkTokens ?? model.thinkTokens) : []
  const content = toolCall ? [] : contentOf(model, ask, wish.outTokens)
  const limit = limitOf(ask)
  return {
    thinking: thinking.slice(0, limit),
    content: content.slice(0, Math.max(0, limit - thinking.length)),
    toolCall,
    doneReason: thinking.length + content.length > limit ? 'length' : 'stop',
    failure: wish.failAt === null ? null : { after: wish.failAt, text: failureText },
  }
}

function contentOf(model: ModelDefinition, ask: GenerateRequest, outTokens: number | null): string[] {
  const pieces = piecesOf(textOf(model, ask))
  const missing = Math.max(0, (outTokens ?? 0) - pieces.length)
  const wished = pieces.concat(filler(model.name + ask.question, missing)).slice(0, outTokens ?? undefined)
  return stopped(wished, ask.options['stop'])
}

function textOf(model: ModelDefinition, ask: GenerateRequest): string {
  if (typeof model.text === 'function') return model.text(ask.question)
  if (model.text !== undefined) return model.text
  if (ask.json) return JSON.stringify({ simulated: true, model: model.name })
  const said = ask.question.replace(/\s+/g, ' ').slice(0, 80)
  const words = 12 + (hashOf(model.name + ask.question) % 36)
  return `I am ${model.name}, simulated: no weights, no thoughts. You said "${said}". ${filler(
    model.name + ask.question,
    words,
  )
    .join('')
    .trimEnd()}.`
}

const vocabulary =
  'llama wool hill path slow grass wind stone bell herd climb rest quiet morning valley step carry bundle over the and then with every more'.split(
    ' ',
  )

/** Words that might have stood in the place of `token`. */
export function vocabularyOf(token: string, count: number): string[] {
  return filler(token, count)
}

function filler(seed: string, count: number): string[] {
  const random = seededRandom(hashOf(seed))
  return Array.from({ length: count }, () => `${vocabulary[Math.floor(random() * vocabulary.length)]} `)
}

/** The pieces up to the first of the `stop` strings, which may lie across two of them. */
function stopped(pieces: string[], stop: unknown): string[] {
  const stops = Array.isArray(stop) ? stop.filter((text) => typeof text === 'string' && text !== '') : []
  if (stops.length === 0) return pieces
  const text = pieces.join('')
  const cuts = stops.map((one) => text.indexOf(one)).filter((at) => at >= 0)
  return cuts.length === 0 ? pieces : piecesOf(text.slice(0, Math.min(...cuts)))
}

function limitOf(ask: GenerateRequest): number {
  const limit = ask.options['num_predict']
  return typeof limit === 'number' && limit > 0 ? Math.floor(limit) : Number.POSITIVE_INFINITY
}

interface Wish {
  readonly outTokens: number | null
  readonly thinkTokens: number | null
  readonly toolCall: ToolCall | null
  readonly failAt: number | null
}

function wishOf(ask: GenerateRequest): Wish {
  const wish = isRecord(ask.options['x_fake']) ? ask.options['x_fake'] : {}
  return {
    outTokens: count(wish['outTokens']),
    thinkTokens: count(wish['thinkTokens']),
    toolCall: toolCallOf(wish['toolCall']),
    failAt: count(wish['failAt']),
  }
}

function count(value: unknown): number | null {
  const counts = typeof value === 'number' && Number.isInteger(value) && value >= 0
  return counts ? Math.min(value, mostTokens) : null
}

/** The answer is held in memory as a whole. */
const mostTokens = 1_000_000

function toolCallOf(value: unknown): ToolCall | null {
  if (!isRecord(value) || typeof value['name'] !== 'string') return null
  return { name: value['name'], arguments: isRecord(value['arguments']) ? value['arguments'] : {} }
}
