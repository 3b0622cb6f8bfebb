import type { OutgoingHttpHeaders } from 'node:http'
import type { NodeView } from '../../fleet/node.ts'
import { ProxyError } from '../../shared/errors.ts'
import { ownFaultOf, ownResourceNames } from '../../shared/process/own-fault.ts'
import { retryHeaders } from '../http/error-response.ts'
import type { Exchange } from '../http/exchange.ts'
import { endAfterBody } from '../http/finish-response.ts'
import { replacementFor } from '../response/not-ollama.ts'
import type { NodeFailed, Refused, UpstreamFailure } from '../response/outcome.ts'
import { faultText, retrySecondsOf } from './fault-text.ts'

/**
 * The last try failed. What the node itself said is the most honest answer; where it said nothing, we do.
 *
 * @param retryAfterS until what failed is tried again; null where nobody can tell.
 * @throws ProxyError `node_failed` or `node_timeout`, and those of `toldInstead`.
 */
export function failRequest(
  exchange: Exchange,
  failure: UpstreamFailure,
  retryAfterS: number | null = null,
): void {
  const { trace } = exchange
  trace.outcome = 'upstream_error'
  if (failure.kind === 'node-failed') {
    const error = errorOf(failure, retryAfterS)
    if (error.code === 'node_timeout') trace.outcome = 'timeout'
    trace.errorIsInStream = failure.fault === 'error-line' && failure.committed
    throw error
  }
  const instead = replacementFor(failure, exchange.path)
  if (instead) throw instead
  sendRefusal(exchange, failure, retryAfterS)
}

/** Sends on what a node said, as it said it. */
export function sendRefusal(exchange: Exchange, failure: Refused, retryAfterS: number | null = null): void {
  const { response, trace, publicId, dialect } = exchange
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

function errorOf({ fault, cause }: NodeFailed, retryAfterS: number | null): ProxyError {
  if (fault === 'own-fault') {
    const resource = ownResourceNames[ownFaultOf(cause) ?? 'files']
    return new ProxyError('own_fault', { resource }, { cause })
  }
  const timedOut = fault.endsWith('timeout') || fault === 'stalled'
  const retryAfter = retryAfterS ?? retrySecondsOf(fault)
  const facts = { reason: faultText(fault, cause.message), ...(retryAfter !== null && { retryAfter }) }
  return new ProxyError(timedOut ? 'node_timeout' : 'node_failed', facts, { cause })
}

/** Why a try failed, in a word; a label of the metrics. */
export function reasonOf(failure: UpstreamFailure): string {
  return failure.kind === 'node-failed' ? failure.fault : `status-${failure.status}`
}

/**
 * Whether a failure bears out the advice that the node is down: it was tried all the same because there was no other, and
 * no connection came up, so it never had the request.
 */
export function provesDown(failure: UpstreamFailure, node: NodeView | undefined): failure is NodeFailed {
  const { fault = null } = failure.kind === 'node-failed' ? failure : {}
  return node?.health === 'down' && (fault === 'unreachable' || fault === 'connect-timeout')
}
