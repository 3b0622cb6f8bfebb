import type { Runner } from '../fleet/runner.ts'
import { slowBytes } from './completion.ts'
import type { CostContext } from './context.ts'

/** Seconds of the whole fleet, if it did nothing else, per token that a tenant is charged; 0 when there is no place. */
export function fleetPerToken(runners: readonly Runner[], context: CostContext): number {
  const { learning, rules } = context
  const model = runners[0]?.model ?? ''
  const { prompt, decoding } = learning.usual(model)
  const output = learning.output(model) * decoding
  let perS = 0
  for (const runner of runners) perS += 1 / Math.max(1e-3, soloS(runner, context, prompt, output))
  const charged = Math.max(1, prompt + rules.queue.outputWeight * output)
  return perS > 0 ? 1 / (perS * charged) : 0
}

/** Seconds that a node needs for one of many such requests, if it did nothing else and used all the runner's slots. */
function soloS(runner: Runner, context: CostContext, prompt: number, output: number): number {
  const { pace, slots } = runner
  const bytes = slowBytes(runner, context)
  const perToken = (pace.secondsPerToken(bytes) * (1 + pace.slowdown * (slots - 1))) / slots
  return prompt / pace.prefillRate(bytes) + output * perToken
}
