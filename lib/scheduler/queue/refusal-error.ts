import type { RequestSpec } from '../../fleet/request-spec.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Effect } from '../events.ts'

type Refusal = Extract<Effect, { type: 'refuse' }>

/** The error for a caller whose request may not wait, or has waited too long. @param unavailable see `unavailableNodesText`. */
export function refusalOf(
  { reason, retryAfterS: retryAfter }: Pick<Refusal, 'reason' | 'retryAfterS'>,
  { model, tenant, queued, labels }: Pick<RequestSpec, 'model' | 'tenant' | 'labels'> & { queued: number },
  unavailable: () => string,
): ProxyError {
  const seconds = Math.ceil(retryAfter)
  switch (reason) {
    case 'queue-full':
      return new ProxyError('queue_full', { queued, retryAfter })
    case 'tenant-full':
      return new ProxyError('tenant_queue_full', { tenant, retryAfter })
    case 'no-capacity':
    case 'waited-too-long':
      return new ProxyError('no_capacity', { model, seconds, retryAfter })
    case 'no-node':
    case 'load-failed':
      return new ProxyError('all_nodes_down', {
        model,
        labels: Object.keys(labels).length,
        unavailable: unavailable(),
      })
  }
  reason satisfies never
}
