import type { OutgoingHttpHeaders } from 'node:http'
import { ProxyError } from '../../shared/errors.ts'
import { viaLlamero } from '../../shared/net/via.ts'
import { errorBody, isStreamType, retryHeaders, streamError } from './error-response.ts'
import { ClientGone, type Exchange } from './exchange.ts'
import { endAfterBody } from './finish-response.ts'

/** Ends an exchange with what its handler threw. When the exchange was aborted, the reason of the abort counts. */
export function endWithError(exchange: Exchange, thrown: unknown): void {
  const { trace, signal } = exchange
  const error: unknown = signal.aborted ? signal.reason : thrown
  trace.error = error
  if (error instanceof ClientGone) {
    trace.outcome = 'client_cancelled'
    exchange.response.destroy()
    return
  }
  refuse(exchange, error instanceof ProxyError ? error : new ProxyError('internal', {}, { cause: error }))
}

/**
 * Sends an error in the caller's dialect. After the first byte of a response, the error follows in the stream and the
 * connection is cut without its proper end: a broken response must never look complete.
 */
function refuse(exchange: Exchange, error: ProxyError): void {
  const { response, request, dialect, publicId } = exchange
  if (response.headersSent) {
    if (exchange.trace.errorIsInStream) response.socket?.destroySoon()
    else if (isStreamType(exchange.trace.contentType))
      response.write(streamError(dialect, error, publicId), () => response.destroy())
    else response.destroy()
    return
  }
  const body = JSON.stringify(errorBody(dialect, error, publicId))
  const headers: OutgoingHttpHeaders = {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'x-request-id': publicId,
    via: viaLlamero,
    ...retryHeaders(dialect, error.status, error.retryAfter),
  }
  if (exchange.trace.attempts > 0) headers['x-llamero-attempts'] = exchange.trace.attempts
  if (error.code === 'method_not_allowed') headers['allow'] = String(error.facts['allow'])
  if (!request.complete) headers['connection'] = 'close'
  response.writeHead(statusFor(exchange, error), headers)
  endAfterBody(exchange, request.method === 'HEAD' ? '' : body)
}

/** The ollama CLI hides the text of a 401 and shows that of a 403. */
function statusFor({ request }: Exchange, error: ProxyError): number {
  return error.status === 401 && request.headers['user-agent']?.startsWith('ollama/') ? 403 : error.status
}
