import type { SchedulingRequest } from '../events.ts'
import type { InFlightRequest, Runner } from '../fleet/runner.ts'
import type { Learning } from '../learning/learning.ts'
import { fewestTokens } from '../learning/outputs.ts'
import type { CostContext } from './cost-context.ts'

/** Expected remaining output tokens of a request that has written so many. */
export function restOf(request: SchedulingRequest, written: number, learning: Learning): number {
  if (request.embeds) return 0
  const rest = learning.rest(request.tenant, request.model, written)
  return request.maxTokens === null ? rest : Math.max(0, Math.min(rest, request.maxTokens - written))
}

/** Bytes that match the runner's speed: those of its model, and more when it is partly outside of the GPU. */
export function slowBytes({ node, model, residence }: Runner, { parameters }: CostContext): number {
  const bytes = node.facts.models.get(model) ?? residence?.size ?? 1
  // Ollama's two numbers may differ by some overhead.
  const isOffloaded = residence ? residence.sizeVram < 0.98 * residence.size : bytes > node.memory
  return Math.max(1, isOffloaded ? bytes * parameters.learning.offloadSlowdown : bytes)
}

/** Tokens that llama-server reads in one batch (`num_batch`: Ollama's default). */
const batchTokens = 512

/** Expected seconds for a full batch of prompt tokens. */
export function batchS(runner: Runner, context: CostContext): number {
  const busy = Math.max(1, runner.node.busy)
  return (busy * batchTokens) / runner.pace.prefillRate(slowBytes(runner, context))
}

/** Expected ends of the requests in flight on a runner, in monotonic seconds. */
export function endsOf(runner: Runner, context: CostContext, now: number): number[] {
  const { inFlight, node, pace } = runner
  if (inFlight.size === 0) return []
  const solo = pace.usualSecondsPerToken(slowBytes(runner, context)) * node.busy
  const perToken = solo * (1 + pace.slowdown * (inFlight.size - 1))
  const ends: number[] = []
  for (const each of inFlight.values()) ends.push(endOf(each, perToken, now))
  return ends
}

function endOf(
  { firstTokenAt, startedAt, prefillS, toldAt, rest }: InFlightRequest,
  perToken: number,
  now: number,
) {
  if (firstTokenAt === null) return Math.max(now, startedAt + prefillS) + rest * perToken
  return Math.max(toldAt + rest * perToken, now + fewestTokens * perToken)
}
