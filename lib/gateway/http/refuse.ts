import type { OutgoingHttpHeaders } from 'node:http'
import type { ProxyError } from '../../shared/errors.ts'
import { viaLlamero } from '../../shared/net/via.ts'
import { errorBody, isStream, retryHeaders, streamError } from './error-response.ts'
import type { Exchange } from './exchange.ts'

/**
 * Tells the caller, in its dialect, that there is no answer. Once part of an answer is out, the error follows in the
 * stream and the connection is cut without its proper end: a broken answer must never look whole.
 */
export function refuse(exchange: Exchange, error: ProxyError): void {
  const { response, request, dialect, publicId } = exchange
  if (response.headersSent) {
    if (exchange.trace.errorIsInStream) response.socket?.destroySoon()
    else if (isStream(exchange.trace.contentType))
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

const lingerMs = 1000

/**
 * Writes the last bytes of an answer, and closes only after the caller has stopped sending, within a second: a socket
 * closed with unread bytes is reset, and the reset overtakes the answer.
 */
export function endAfterBody({ request, response }: Exchange, last: string | Buffer): void {
  if (request.complete) {
    response.end(last)
    return
  }
  response.write(last)
  const end = () => {
    clearTimeout(timer)
    response.end()
  }
  const timer = setTimeout(end, lingerMs).unref()
  request.once('end', end)
  request.once('close', end)
  request.resume()
}
