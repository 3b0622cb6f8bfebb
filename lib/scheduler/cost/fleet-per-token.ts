import type { Runner } from '../fleet/runner.ts'
import { slowBytes } from './completion.ts'
import type { CostContext } from './cost-context.ts'

/** Seconds of the whole fleet, doing nothing else, per token that a tenant is charged; 0 without a node. */
export function fleetPerToken(runners: readonly Runner[], context: CostContext): number {
  const { learning, parameters } = context
  const model = runners[0]?.model ?? ''
  const { prompt, decoding } = learning.usual(model)
  const output = learning.output(model) * decoding
  let perS = 0
  for (const runner of runners) perS += 1 / Math.max(1e-3, soloS(runner, context, prompt, output))
  const charged = Math.max(1, prompt + parameters.queue.outputWeight * output)
  return perS > 0 ? 1 / (perS * charged) : 0
}

/** Seconds per request on a node that does nothing else and uses all slots of the runner. */
function soloS(runner: Runner, context: CostContext, prompt: number, output: number): number {
  const { pace, slots } = runner
  const bytes = slowBytes(runner, context)
  const perToken = (pace.secondsPerToken(bytes) * (1 + pace.slowdown * (slots - 1))) / slots
  return prompt / pace.prefillRate(bytes) + output * perToken
}
