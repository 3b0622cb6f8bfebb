import type Router from '@koa/router'
import { z } from 'zod'
import { canonicalName } from '../fleet/names.ts'
import type { LoggedDecision } from '../scheduler/decision-log.ts'
import { type AdminContext, apiVersion } from './context.ts'
import { candidateRow, seconds } from './outlook.ts'
import { readQuery } from './queue.ts'

const questionSchema = z.strictObject({
  outcome: z.string().exactOptional(),
  model: z.string().exactOptional(),
  tenant: z.string().exactOptional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
})

/** Where the last requests of this instance were sent and why, or why not, and how well that was predicted. The newest first. */
export function decisionRoutes(router: Router, { instance, scheduler, clock }: AdminContext): void {
  router.get('/admin/v1/decisions', (context) => {
    const { outcome, model, tenant, limit } = readQuery(context.query, questionSchema)
    const wanted = model === undefined ? undefined : (canonicalName(model) ?? model)
    const found = scheduler
      .decisions()
      .filter((each) => wanted === undefined || each.model === wanted)
      .filter((each) => tenant === undefined || each.tenant === tenant)
      .filter((each) => outcome === undefined || each.outcome === outcome)
    const epochMs = clock.date().getTime() - clock.now()
    const decisions = found.slice(0, limit).map((each) => row(each, epochMs))
    context.body = { apiVersion, instance, decisions }
  })
}

/** @param epochMs the date of the clock's origin, as far as the machine's date can be believed. */
function row(
  { id, model, tenant, class: named, at, waited, decision, outcome, ttft }: LoggedDecision,
  epochMs: number,
) {
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
