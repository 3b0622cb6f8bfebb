import type { RequestSpec } from '../../fleet/request-spec.ts'
import type { HalfOpenPermit } from '../availability/circuit-breaker.ts'
import type { Upstream } from '../availability/upstream.ts'
import type { UpstreamOutcome } from '../response/outcome.ts'
import { assessFailure, type FailureAssessment } from './failure-policy.ts'

interface NodeGuards {
  readonly node: string
  readonly upstream: Upstream
  readonly permit: HalfOpenPermit
  /** See UpstreamAttemptsOptions. */
  readonly requestProbe: (node: string) => void
}

/** Records what an outcome says about its node: breaker, back-pressure, blocked models and probes. */
export function recordOutcome(
  outcome: UpstreamOutcome,
  spec: Pick<RequestSpec, 'api' | 'model' | 'variant'>,
  { node, upstream, permit, requestProbe }: NodeGuards,
): FailureAssessment {
  const assessment = assessFailure(outcome, spec)
  if (outcome.kind === 'refused') upstream.recordRefusal(outcome)
  // Before the permit is settled: a busy response proves that the node works.
  if (assessment.effect === 'busy' && outcome.kind === 'refused') upstream.busy(outcome.retryAfterMs ?? 0)
  if (assessment.effect === 'model') upstream.blockModel(spec.model)
  if (assessment.effect === 'model' || assessment.sign === 'refused') requestProbe(node)
  permit.settle(assessment.sign)
  if (assessment.sign === 'bad') permit.failAfterHead()
  return assessment
}
