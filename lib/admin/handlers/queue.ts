import type { EstimateAnswer, ExcludedNodes } from '../../api/estimate.ts'
import type { queueEndpoints } from '../../api/queue.ts'
import type { QueuedRequest } from '../../scheduler/core.ts'
import { requestSpecOf } from '../../scheduler/queue/scheduling-request.ts'
import type { Scheduler } from '../../scheduler/scheduler.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import { estimateRow, excludedRows, seconds } from './estimate.ts'

/** Rows of a list with their candidates: finding these costs as much as a scheduling decision, on every node. */
const explainedRows = 20

/** The waiting requests of this instance in serving order, each with its reason. Their content is never shown. */
export function queueHandlers({
  instance,
  scheduler,
  clock,
  log,
}: AdminContext): Handlers<typeof queueEndpoints> {
  const nowS = () => clock.now() / 1000

  return {
    listQueue: ({ query: { limit } }) => {
      const all = scheduler.queued()
      const now = nowS()
      const waiting = all.slice(0, limit).map((queued, at) => ({
        ...row(queued, now),
        ...(at < explainedRows ? explained(queued, scheduler, now) : planned(queued, now)),
      }))
      return {
        instance,
        total: all.length,
        by_class: countBy(all, ({ request }) => request.class),
        by_tenant: countBy(all, ({ request }) => request.tenant),
        waiting,
      }
    },

    readWaiting: ({ params: { id } }) => {
      const all = scheduler.queued()
      const at = all.findIndex(({ request }) => request.id === id)
      const queued = all[at]
      if (!queued) throw notWaiting(id)
      const now = nowS()
      const { request } = queued
      return {
        instance,
        position: at + 1,
        ...row(queued, now),
        prompt_tokens: Math.round(request.promptTokens),
        max_tokens: request.maxTokens,
        labels: request.labels,
        failed_on: [...request.tried],
        ...explained(queued, scheduler, now),
      }
    },

    cancelWaiting: ({ params: { id } }) => {
      if (!scheduler.cancel(id)) throw notWaiting(id)
      log.info('waiting request cancelled', { request: id })
    },
  }
}

function row({ request, plan }: QueuedRequest, now: number) {
  const { id, model, variant, tenant, class: named, arrivedAt } = request
  const waited_seconds = seconds(Math.max(0, now - arrivedAt))
  return { id, model, variant, tenant, class: named, waited_seconds, node: plan?.node ?? null }
}

function explained({ request }: QueuedRequest, scheduler: Scheduler, now: number) {
  const explanation = scheduler.explain(requestSpecOf(request))
  return { ...estimateRow(explanation, now), ...excludedRows(explanation) }
}

/** What is known of a request without a search for candidates. */
function planned({ plan }: QueuedRequest, now: number) {
  return {
    waits_for: plan?.waitsFor ?? null,
    starts_in_seconds: plan ? seconds(Math.max(0, plan.startsAt - now)) : null,
    places: null,
    candidates: null,
    excluded_total: null,
    excluded_nodes: null,
  } satisfies EstimateAnswer & ExcludedNodes
}

function countBy(
  all: readonly QueuedRequest[],
  nameOf: (queued: QueuedRequest) => string,
): Record<string, number> {
  const groups = [...Map.groupBy(all, nameOf)].map(([name, each]) => [name, each.length] as const)
  return Object.fromEntries(groups.sort(([, a], [, b]) => b - a))
}

function notWaiting(id: string): ProxyError {
  return new ProxyError('not_found', { kind: 'waiting request', name: id.slice(0, 80) })
}
