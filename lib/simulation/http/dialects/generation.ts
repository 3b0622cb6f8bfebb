import { setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../../../shared/clock.ts'
import { decodeSlowdown } from '../../ollama-model/decoding.ts'
import type { PacedRunner } from '../engine/paced-runner.ts'
import type { Pacer } from '../engine/pacer.ts'
import type { SlotLease } from '../engine/slots.ts'
import { RunnerFailure } from '../refusal.ts'
import type { Answer } from './answer.ts'

/** Of each further active slot. A rehearsal has its own, which its published tables rest on. */
const batchPenalty = 0.35
/** Unpaced tokens let the event loop turn this often. */
const burst = 32

export interface GeneratedPiece {
  readonly text: string
  readonly thinking: boolean
}

/** What the final chunk says of a generation. Milliseconds; it goes out in nanoseconds. */
export interface GenerationTimings {
  readonly promptTokens: number
  /** Those of them that were in the prompt cache. */
  readonly cachedTokens: number
  readonly promptMs: number
  readonly tokens: number
  readonly decodeMs: number
}

interface Generation {
  readonly runner: PacedRunner
  readonly slot: SlotLease
  readonly prompt: string
  readonly promptTokens: number
  readonly answer: Answer
  readonly clock: Clock
  readonly pacer: Pacer
  /** Multiplies both speeds of the model. */
  readonly speed: number
  /** Takes one token; the next is computed when it resolves. */
  readonly emit: (piece: GeneratedPiece) => Promise<void> | undefined
  /** Tokens found in the prompt cache. */
  readonly onCached: (tokens: number) => void
}

/**
 * Reads the prompt, then emits the answer token by token at the runner's pace.
 * @throws RunnerFailure where the answer says so; the pacer's reason when the client leaves.
 */
export async function generate(generation: Generation): Promise<GenerationTimings> {
  const { runner, slot, prompt, promptTokens, answer, clock, pacer } = generation
  const waitMs = runner.batches.waitMs(clock.now())
  if (waitMs > 0) await pacer.wait(waitMs)
  const startedAt = clock.now()
  const cachedTokens = await prefill(generation)
  const promptAt = clock.now()
  const said: string[] = []
  try {
    await decode(generation, said)
  } finally {
    slot.computed(prompt + said.join(''))
  }
  const call = answer.toolCall ? Math.ceil(JSON.stringify(answer.toolCall).length / 4) : 0
  return {
    promptTokens,
    cachedTokens,
    promptMs: promptAt - startedAt,
    tokens: answer.thinking.length + answer.content.length + call,
    decodeMs: clock.now() - promptAt,
  }
}

/** Computes what the prompt cache does not have, at least one token. Resolves to the tokens that it has. */
async function prefill({
  runner,
  slot,
  promptTokens,
  pacer,
  clock,
  speed,
  onCached,
}: Generation): Promise<number> {
  const cached = Math.min(slot.cachedTokens, promptTokens)
  onCached(cached)
  const tokens = Math.max(1, promptTokens - cached)
  const msPerToken = promptMsPerToken(runner, speed)
  if (msPerToken > 0) {
    using _reading = runner.batches.begin(clock, tokens, msPerToken)
    await pacer.wait(tokens * msPerToken)
  }
  return Math.min(cached, promptTokens - 1)
}

async function decode(
  { runner, answer, clock, pacer, speed, emit }: Generation,
  said: string[],
): Promise<void> {
  const msPerToken = msOf(runner.shape.model.decodeTps * speed) * runner.slowdown
  let dueAt = clock.now()
  let tokens = 0
  for (const piece of piecesOf(answer)) {
    failWhenDue(runner, answer, tokens)
    // Paced by when a token is due, not by pauses: a late timer delays one token, not the whole answer.
    dueAt += msPerToken * decodeSlowdown(runner.slots.active, batchPenalty)
    const early = dueAt - clock.now()
    if (early > 0) await pacer.wait(early)
    else if (tokens % burst === burst - 1) await turn()
    const taken = emit(piece)
    if (taken !== undefined) await taken
    if (!piece.thinking) said.push(piece.text)
    tokens++
  }
  failWhenDue(runner, answer, tokens)
}

const crashedText = 'an error was encountered while running the model: unexpected EOF'

function failWhenDue(runner: PacedRunner, { failure }: Answer, tokens: number): void {
  if (runner.crashed) throw new RunnerFailure(crashedText)
  if (failure?.after === tokens) throw new RunnerFailure(failure.text)
}

function* piecesOf({ thinking, content }: Answer): Generator<GeneratedPiece> {
  for (const text of thinking) yield { text, thinking: true }
  for (const text of content) yield { text, thinking: false }
}

/** Milliseconds a runner needs for one new token of a prompt. */
export function promptMsPerToken(runner: PacedRunner, speed: number): number {
  return msOf(runner.shape.model.promptTps * speed) * runner.slowdown
}

/** 0 and Infinity both mean as fast as the machine can. */
function msOf(tokensPerSecond: number): number {
  return tokensPerSecond > 0 ? 1000 / tokensPerSecond : 0
}
