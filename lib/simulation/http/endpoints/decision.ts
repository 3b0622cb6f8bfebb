import { isBefore } from '../../../shared/versions.ts'
import { jsonUtf8Type } from '../dialects/dialect.ts'
import { promptMsPerToken } from '../dialects/generation.ts'
import { parseName } from '../disk/model-name.ts'
import { fingerprintOf, keepAliveMs } from '../engine/fingerprint.ts'
import { countTokens, hashOf } from '../engine/tokens.ts'
import { Fields, goJson, isRecord } from '../json.ts'
import type { Machine, NodeExchange } from '../machine.ts'
import { Refusal, RunnerFailure } from '../refusal.ts'
import { takeSlot } from './inference.ts'

/** A field of the answer: its type, and the candidates of which the model weighs each. */
interface Question {
  readonly name: string
  readonly type: 'noul' | 'choice' | 'score'
  readonly instructions: string
  /** Key and description of each candidate. */
  readonly candidates: readonly (readonly [string, string])[]
}

interface DecisionRequest {
  readonly model: string
  readonly state: string
  readonly questions: readonly Question[]
  readonly keepAliveMs: number | null
}

/** The version that has the endpoint. */
const since = '0.35.0'
const mostQuestions = 64
const mostCandidates = 26
/** Of a body without images. */
const mostBytes = 64 * 1024

/** The body of `/v1/systemone` (ollama: decision/systemone.go). @throws Refusal 400. */
export function readDecision(body: unknown): DecisionRequest {
  const fields = new Fields(body, 'Request')
  const model = fields.text('model')
  if (model.trim() === '') throw new Refusal(400, 'model is required')
  const questions = Object.entries(fields.record('questions'))
  if (questions.length < 1 || questions.length > mostQuestions)
    throw new Refusal(400, `questions must contain 1–${mostQuestions} fields`)
  if (fields.list('images').length > 0) throw new Refusal(400, 'this decision model does not support images')
  const state = contentOf(fields.raw('state'))
  if (state === null) throw new Refusal(400, 'state: must be a string, object, or array')
  if (state.trim() === '') throw new Refusal(400, 'state must not be empty')
  return {
    model,
    state,
    questions: questions.map(([name, question]) => questionOf(name, question)),
    keepAliveMs: keepAliveMs(fields.raw('keep_alive')),
  }
}

function questionOf(name: string, value: unknown): Question {
  const wrong = (what: string) => new Refusal(400, `question ${JSON.stringify(name)}: ${what}`)
  const { type, instructions, criteria } = isRecord(value) ? value : {}
  if (name.trim() === '') throw wrong('field name must not be empty')
  const text = contentOf(instructions)
  if (text === null || text.trim() === '')
    throw wrong('instructions must be a nonempty string, object, or array')
  if (type !== 'noul' && type !== 'choice' && type !== 'score')
    throw wrong('type must be choice, noul, or score')
  const candidates = candidatesOf(type, criteria)
  if (typeof candidates === 'string') throw wrong(candidates)
  if (candidates.length < 2 || candidates.length > mostCandidates)
    throw wrong(`criteria must contain 2–${mostCandidates} candidates`)
  return { name, type, instructions: text, candidates }
}

/** The candidates of a question, or what is wrong with its criteria. */
function candidatesOf(
  type: Question['type'],
  criteria: unknown,
): readonly (readonly [string, string])[] | string {
  if (type === 'score') {
    const isList = Array.isArray(criteria) && criteria.every((each) => typeof each === 'string')
    return isList
      ? criteria.map((each, at) => [String(at), each])
      : 'score criteria must be an array of descriptions'
  }
  if (type === 'choice') {
    if (!isRecord(criteria)) return 'choice criteria must map option keys to descriptions or null'
    return Object.entries(criteria).map(([key, description]) => [key, String(description ?? key)])
  }
  const { true: yes = 'Yes', false: no = 'No', ...others } = isRecord(criteria) ? criteria : {}
  const [unknown] = Object.keys(others)
  if (unknown !== undefined) return `unknown noul criterion ${JSON.stringify(unknown)}`
  return [
    ['false', String(no)],
    ['true', String(yes)],
  ]
}

/** A text, or an object or array as JSON; null for anything else. */
function contentOf(value: unknown): string | null {
  if (typeof value === 'string') return value
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : null
}

/** Weighs the candidates of each question. An older Ollama does not have the path. @throws Refusal */
export async function decide(machine: Machine, exchange: NodeExchange, ask: DecisionRequest): Promise<void> {
  const { ledger, runners, shelf, speed } = machine
  if (Number(exchange.headers['content-length'] ?? 0) > mostBytes)
    throw new Refusal(413, 'http: request body too large')
  const model = shelf.find(ask.model, 'chat')
  if (!model.capabilities.includes('decision'))
    throw new Refusal(400, `${parseName(model.name)?.full} does not support decision`)
  using _flight = ledger.flight(model.name)
  using lease = await runners.acquire({
    model,
    fingerprint: fingerprintOf({}, true),
    keepAliveMs: ask.keepAliveMs,
    signal: exchange.signal,
    request: exchange.id,
    refuseQueue: exchange.plan.busy !== undefined,
  })
  using _slot = await takeSlot(machine, exchange, lease.runner, ask.state)
  if (exchange.plan.failure) throw new RunnerFailure(exchange.plan.failure.text)
  // The state is read once for each question.
  const inputTokens = ask.questions.reduce(
    (sum, { instructions }) => sum + countTokens(ask.state) + countTokens(instructions),
    0,
  )
  const promptMs = inputTokens * promptMsPerToken(lease.runner, speed)
  if (promptMs > 0) await exchange.pacer.wait(promptMs)
  const answers = Object.fromEntries(
    ask.questions.map((question) => [question.name, answerTo(question, ask.state)]),
  )
  const usage = { input_tokens: inputTokens, output_tokens: ask.questions.length }
  const text = goJson({ model: ask.model, answers, usage })
  await exchange.reply.whole(200, { type: jsonUtf8Type, text })
}

/** Whether the node's Ollama has the path. */
export function hasDecisions({ version }: Machine): boolean {
  return !isBefore(version, since)
}

/** Equal questions about equal states have equal answers on every node. */
function answerTo({ name, type, instructions, candidates }: Question, state: string): object {
  const weights = candidates.map(([key]) =>
    Math.exp((hashOf(`${state} ${name} ${instructions} ${key}`) % 1000) / 250),
  )
  const sum = weights.reduce((total, weight) => total + weight, 0)
  const shares = weights.map((weight) => weight / sum)
  if (type === 'noul') return { type, noul: shares[1] }
  const probabilities = Object.fromEntries(candidates.map(([key], at) => [key, shares[at]]))
  const entropy = shares.reduce((total, share) => total - share * Math.log(share), 0)
  const confidence = Math.max(0, 1 - entropy / Math.log(shares.length))
  if (type === 'choice') {
    const choice = candidates[shares.indexOf(Math.max(...shares))]?.[0]
    return { type, choice, probabilities, confidence }
  }
  const score = shares.reduce((total, share, at) => total + share * at, 0)
  return { type, score, legend: Object.fromEntries(candidates), probabilities, confidence }
}
