import type { Ask } from '../fleet/ask.ts'
import type { Trial } from './breaker.ts'
import { judge, type Verdict } from './failures.ts'
import type { Outcome } from './outcome.ts'
import type { Upstream } from './upstream.ts'

interface Taught {
  readonly node: string
  readonly upstream: Upstream
  readonly trial: Trial
  /** See TriesOptions. */
  readonly doubt: (node: string) => void
}

/** What an outcome says of its node goes to the node's guards. */
export function teach(
  outcome: Outcome,
  ask: Pick<Ask, 'api' | 'model' | 'variant'>,
  { node, upstream, trial, doubt }: Taught,
): Verdict {
  const verdict = judge(outcome, ask)
  if (outcome.kind === 'refused') upstream.noteRefusal(outcome)
  // Before the trial is settled: a busy answer proves that the node lives.
  if (verdict.effect === 'busy' && outcome.kind === 'refused') upstream.busy(outcome.retryAfterMs ?? 0)
  if (verdict.effect === 'model') upstream.bar(ask.model)
  if (verdict.effect === 'model' || verdict.sign === 'refused') doubt(node)
  trial.settle(verdict.sign)
  if (verdict.sign === 'bad') trial.broke()
  return verdict
}
