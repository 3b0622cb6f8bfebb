import type { CandidateAnswer, EstimateAnswer, ExcludedNodes } from '../../api/estimate.ts'
import type { Candidate } from '../../scheduler/events.ts'
import type { Explanation } from '../../scheduler/explain.ts'
import type { WaitEstimate } from '../../scheduler/queue/wait-estimate.ts'

/** Nodes shown per request: in a fleet of a thousand nodes more would hide the few that matter. */
const toldCandidates = 10

/** The estimate for a request. @param now monotonic seconds. */
export function estimateRow({ candidates, waitsFor, predictedStart, refused }: WaitEstimate, now: number) {
  return {
    refused,
    waits_for: waitsFor,
    starts_in_seconds: predictedStart === null ? null : seconds(Math.max(0, predictedStart - now)),
    places: candidates.length,
    candidates: candidates.slice(0, toldCandidates).map(candidateRow),
  } satisfies EstimateAnswer
}

/** Nodes that cannot take a request now, with the reason. Nodes that have its model or match its labels come first. */
export function excludedRows({ perNode }: Explanation): ExcludedNodes {
  const rank = (barrier: string | null) => (barrier === 'no-model' ? 2 : barrier === 'labels' ? 1 : 0)
  const excluded = perNode
    .filter(({ barrier }) => barrier !== null)
    .sort((a, b) => rank(a.barrier) - rank(b.barrier))
  return {
    excluded_total: excluded.length,
    excluded_nodes: excluded.slice(0, toldCandidates).map(({ node, barrier }) => ({
      node: node.name,
      excluded: barrier,
      health: node.health,
      health_reason: node.status?.reason ?? '',
    })),
  }
}

/** The cost terms of a candidate node; `cost_seconds` is their weighted sum (docs/routing.md#cost). */
export function candidateRow(candidate: Candidate): CandidateAnswer {
  return {
    node: candidate.node,
    state: candidate.state,
    start_seconds: seconds(candidate.start),
    prefill_seconds: seconds(candidate.prefill),
    decode_seconds: seconds(candidate.decode),
    externality_seconds: seconds(candidate.externality),
    eviction_seconds: seconds(candidate.eviction),
    cost_seconds: seconds(candidate.cost),
  }
}

/** Rounded to milliseconds, the precision of estimates. */
export function seconds(value: number): number {
  return Math.round(value * 1000) / 1000
}
