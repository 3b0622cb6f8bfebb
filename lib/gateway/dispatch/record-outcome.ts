import type { RequestSpec } from '../../fleet/request-spec.ts'
import type { HalfOpenPermit } from '../availability/circuit-breaker.ts'
import type { Upstream } from '../availability/upstream.ts'
import type { UpstreamOutcome } from '../response/outcome.ts'
import { type FailureVerdict, judgeFailure } from './failure-policy.ts'

interface Taught {
  readonly node: string
  readonly upstream: Upstream
  readonly trial: HalfOpenPermit
  /** See TriesOptions. */
  readonly doubt: (node: string) => void
}

/** What an outcome says of its node goes to the node's guards. */
export function recordOutcome(
  outcome: UpstreamOutcome,
  ask: Pick<RequestSpec, 'api' | 'model' | 'variant'>,
  { node, upstream, trial, doubt }: Taught,
): FailureVerdict {
  const verdict = judgeFailure(outcome, ask)
  if (outcome.kind === 'refused') upstream.noteRefusal(outcome)
  // Before the trial is settled: a busy answer proves that the node lives.
  if (verdict.effect === 'busy' && outcome.kind === 'refused') upstream.busy(outcome.retryAfterMs ?? 0)
  if (verdict.effect === 'model') upstream.bar(ask.model)
  if (verdict.effect === 'model' || verdict.sign === 'refused') doubt(node)
  trial.settle(verdict.sign)
  if (verdict.sign === 'bad') trial.broke()
  return verdict
}
