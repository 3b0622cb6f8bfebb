import type { DecisionAnswer, decisionEndpoints } from '../../api/decisions.ts'
import { canonicalName } from '../../fleet/documents/names.ts'
import type { LoggedDecision } from '../../scheduler/decision-log.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import { candidateRow, seconds } from './estimate.ts'

/** The last decisions of this instance, the newest first: the node or the refusal, the reason, and the predicted and actual TTFT. */
export function decisionHandlers({
  instance,
  scheduler,
  clock,
}: AdminContext): Handlers<typeof decisionEndpoints> {
  return {
    listDecisions: ({ query: { outcome, model, tenant, limit } }) => {
      const wanted = model === undefined ? undefined : (canonicalName(model) ?? model)
      const found = scheduler
        .decisions()
        .filter((each) => wanted === undefined || each.model === wanted)
        .filter((each) => tenant === undefined || each.tenant === tenant)
        .filter((each) => outcome === undefined || each.outcome === outcome)
      const epochMs = clock.date().getTime() - clock.now()
      return { instance, decisions: found.slice(0, limit).map((each) => row(each, epochMs)) }
    },
  }
}

/** @param epochMs the date of the clock's origin, by the machine's wall clock. */
function row(
  { id, model, tenant, class: named, at, waited, decision, outcome, ttft }: LoggedDecision,
  epochMs: number,
): DecisionAnswer {
  const candidates = decision?.candidates ?? []
  return {
    id,
    decided: new Date(epochMs + at * 1000).toISOString(),
    model,
    tenant,
    class: named,
    node: candidates[0]?.node ?? null,
    reason: decision?.reason ?? null,
    outcome,
    waited_seconds: seconds(waited),
    predicted_ttft_seconds: decision && seconds(decision.ttft),
    actual_ttft_seconds: ttft === null ? null : seconds(ttft),
    candidates: candidates.map(candidateRow),
  }
}
