import type { OutgoingHttpHeaders } from 'node:http'
import { ProxyError } from '../shared/errors.ts'
import type { Exchange } from './exchange.ts'
import type { Failure } from './outcome.ts'

/**
 * The last try failed. What the node itself said is the most honest answer; where it said nothing, we do.
 *
 * @throws ProxyError `node_failed` or `node_timeout`.
 */
export function giveUp({ response, trace, publicId }: Exchange, failure: Failure): void {
  trace.outcome = 'upstream_error'
  if (failure.kind === 'node-failed') {
    const timedOut = failure.fault.endsWith('timeout') || failure.fault === 'stalled'
    if (timedOut) trace.outcome = 'timeout'
    trace.told = failure.fault === 'error-line' && failure.committed
    throw new ProxyError(
      timedOut ? 'node_timeout' : 'node_failed',
      { reason: failure.fault === 'error-line' ? failure.cause.message : failure.fault },
      { cause: failure.cause },
    )
  }
  const headers: OutgoingHttpHeaders = {
    'content-type': failure.contentType,
    'content-length': failure.body.length,
    'x-request-id': publicId,
    'x-llamero-attempts': trace.attempts,
  }
  if (failure.status === 503 || failure.status === 429)
    headers['retry-after'] = String(Math.ceil((failure.retryAfterMs ?? 1000) / 1000))
  response.writeHead(failure.status, headers)
  response.end(failure.body)
}

/** Why a try failed, in a word; a label of the metrics. */
export function reasonOf(failure: Failure): string {
  return failure.kind === 'node-failed' ? failure.fault : `status-${failure.status}`
}
