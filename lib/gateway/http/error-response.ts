import type { ServerResponse } from 'node:http'
import type { Dialect } from '../../fleet/request-spec.ts'
import type { ErrorCode, ProxyError } from '../../shared/errors.ts'

/** Whether a response of this type is a stream of lines or events. */
export function isStreamType(contentType: string): boolean {
  return contentType.startsWith('application/x-ndjson') || contentType.startsWith('text/event-stream')
}

const kinds: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
}

/** Errors that Ollama has too, for which it gives OpenAI clients no code (docs/ollama.md#answers). */
const ollamasOwn: ReadonlySet<ErrorCode> = new Set([
  'missing_body',
  'bad_json',
  'missing_model',
  'bad_model',
  'model_not_found',
  'model_not_pulled',
])

/** An error in the format of the caller's API (docs/ollama.md#answers). */
export function errorBody(dialect: Dialect, error: ProxyError, requestId: string): object {
  const type =
    kinds[error.status] ??
    (error.status === 503 && dialect === 'anthropic' ? 'overloaded_error' : 'api_error')
  switch (dialect) {
    case 'ollama':
      return { error: error.message }
    case 'openai': {
      const code = ollamasOwn.has(error.code) ? null : error.code
      return { error: { message: error.message, type, param: null, code } }
    }
    case 'anthropic':
      return { type: 'error', error: { type, message: error.message }, request_id: requestId }
  }
  dialect satisfies never
}

/** Seconds until a retry may help; undefined when waiting does not help. */
type Wait = number | undefined

/**
 * Headers that say when to retry. For the SDKs of OpenAI and Anthropic also whether to retry, where the status alone
 * would mislead them (docs/ollama.md#answers): they retry 408, 409, 429 and every status from 500 on.
 */
export function retryHeaders(dialect: Dialect, status: number, wait: Wait): Record<string, string> {
  const headers = wait === undefined ? {} : { 'retry-after': String(Math.ceil(wait)) }
  if (dialect === 'ollama') return headers
  if (wait !== undefined) {
    return { ...headers, 'retry-after-ms': String(Math.ceil(wait * 1000)), 'x-should-retry': 'true' }
  }
  return mayPass.has(status) ? {} : { 'x-should-retry': 'false' }
}

/** Statuses that a retry without a known delay may not meet again. */
const mayPass = new Set([408, 500, 502, 504])

/**
 * The error at the end of a broken stream, so that no client takes the stream for complete. The leading line break
 * ends a line that was cut in the middle; readers skip an empty line.
 */
export function streamError(dialect: Dialect, error: ProxyError, requestId: string): string {
  const json = JSON.stringify(errorBody(dialect, error, requestId))
  switch (dialect) {
    case 'ollama':
      return `\n${json}\n`
    case 'openai':
      return `\n\ndata: ${json}\n\n`
    case 'anthropic':
      return `\n\nevent: error\ndata: ${json}\n\n`
  }
  dialect satisfies never
}

/** Sends a JSON response. */
export function sendJson(
  response: ServerResponse,
  status: number,
  body: Buffer | string,
  headers: Record<string, string | number> = {},
): void {
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    ...headers,
  })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}
