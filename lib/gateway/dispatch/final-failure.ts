import type { OutgoingHttpHeaders } from 'node:http'
import type { NodeView } from '../../fleet/node.ts'
import { ProxyError } from '../../shared/errors.ts'
import { ownFaultOf, ownResourceNames } from '../../shared/process/own-fault.ts'
import { retryHeaders } from '../http/error-response.ts'
import type { Exchange } from '../http/exchange.ts'
import { endAfterBody } from '../http/finish-response.ts'
import { replacementFor } from '../response/not-ollama.ts'
import type { NodeFailed, Refused, UpstreamFailure } from '../response/outcome.ts'
import { textOf } from './failure-policy.ts'
import { faultText, retrySecondsOf } from './fault-text.ts'

/**
 * Ends a request after its last attempt failed. The node's own error is passed on where there is one.
 *
 * @param retryAfterS seconds until what failed is tried again; null when unknown.
 * @throws ProxyError `node_failed` or `node_timeout`, and those of `replacementFor`.
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

/** Passes a node's refusal on unchanged. */
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

/** Why an attempt failed; a metric label. */
export function reasonOf(failure: UpstreamFailure): string {
  return failure.kind === 'node-failed' ? failure.fault : `status-${failure.status}`
}

/** One failed attempt in one line, for the log. */
export function failureLine(node: string, failure: UpstreamFailure): string {
  const said = failure.kind === 'node-failed' ? failure.cause.message : textOf(failure.body)
  return `${node}: ${reasonOf(failure)}${said ? `: ${said}` : ''}`
}

/**
 * Whether a failure confirms the health `down` of its node: the node was tried because no other was left, no
 * connection came up, and it never received the request.
 */
export function provesDown(failure: UpstreamFailure, node: NodeView | undefined): failure is NodeFailed {
  const { fault = null } = failure.kind === 'node-failed' ? failure : {}
  return node?.health === 'down' && (fault === 'unreachable' || fault === 'connect-timeout')
}
