import { type ErrorCode, ProxyError } from '../../shared/errors.ts'
import { LoadFailed } from './model-loader.ts'

/** Why the scheduler gave no slot, as a metric label; null when the exchange ended first. */
export function rejectionOf(error: unknown): string | null {
  if (error instanceof LoadFailed) return 'load_failed'
  return error instanceof ProxyError ? (rejections[error.code] ?? null) : null
}

const rejections: { readonly [Code in ErrorCode]?: string } = {
  queue_full: 'full',
  tenant_queue_full: 'tenant_full',
  no_capacity: 'no_capacity',
  queue_timeout: 'deadline',
  all_nodes_down: 'no_node',
  cancelled: 'cancelled',
}
