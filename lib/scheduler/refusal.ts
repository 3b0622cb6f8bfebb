import { ProxyError } from '../shared/errors.ts'
import type { Effect } from './events.ts'

type Refusal = Extract<Effect, { type: 'refuse' }>

/** What a caller is told who may not wait, or has waited for too long. */
export function refusalOf(
  { reason, retryAfterS }: Pick<Refusal, 'reason' | 'retryAfterS'>,
  { model, tenant, queued }: { model: string; tenant: string; queued: number },
): ProxyError {
  const retryAfter = Math.ceil(retryAfterS)
  switch (reason) {
    case 'queue-full':
      return new ProxyError('queue_full', { queued, retryAfter })
    case 'tenant-full':
      return new ProxyError('tenant_queue_full', { tenant, retryAfter })
    case 'no-capacity':
    case 'waited-too-long':
      return new ProxyError('no_capacity', { model, seconds: retryAfter, retryAfter })
    case 'no-node':
      return new ProxyError('all_nodes_down', { model })
  }
  reason satisfies never
}
