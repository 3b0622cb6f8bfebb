import type { OutgoingHttpHeaders } from 'node:http'
import { ProxyError } from '../shared/errors.ts'
import { retryHeaders } from './dialect.ts'
import type { Exchange } from './exchange.ts'
import type { Failure } from './outcome.ts'
import { endAfterBody } from './refuse.ts'

/**
 * The last try failed. What the node itself said is the most honest answer; where it said nothing, we do.
 *
 * @param retryAfterS until what failed is tried again; null where nobody can tell.
 * @throws ProxyError `node_failed` or `node_timeout`.
 */
export function giveUp(exchange: Exchange, failure: Failure, retryAfterS: number | null = null): void {
  const { response, trace, publicId, dialect } = exchange
  trace.outcome = 'upstream_error'
  if (failure.kind === 'node-failed') {
    const timedOut = failure.fault.endsWith('timeout') || failure.fault === 'stalled'
    if (timedOut) trace.outcome = 'timeout'
    trace.told = failure.fault === 'error-line' && failure.committed
    throw new ProxyError(
      timedOut ? 'node_timeout' : 'node_failed',
      {
        reason: failure.fault === 'error-line' ? failure.cause.message : failure.fault,
        ...(retryAfterS !== null && { retryAfter: retryAfterS }),
      },
      { cause: failure.cause },
    )
  }
  const isBusy = failure.status === 503 || failure.status === 429
  const waitS = isBusy ? (failure.retryAfterMs ?? 1000) / 1000 : (retryAfterS ?? undefined)
  const headers: OutgoingHttpHeaders = {
    'content-type': failure.contentType,
    'content-length': failure.body.length,
    'x-request-id': publicId,
    'x-llamero-attempts': trace.attempts,
    ...retryHeaders(dialect, failure.status, waitS),
  }
  response.writeHead(failure.status, headers)
  endAfterBody(exchange, failure.body)
}

/** Why a try failed, in a word; a label of the metrics. */
export function reasonOf(failure: Failure): string {
  return failure.kind === 'node-failed' ? failure.fault : `status-${failure.status}`
}
