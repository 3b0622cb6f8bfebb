import { ProxyError } from '../../shared/errors.ts'
import { errorText, parseObject } from './ollama-json.ts'
import type { Refused } from './outcome.ts'

/** Texts of Ollama's router (gin: default404Body, default405Body). */
const routersOwn: ReadonlySet<string> = new Set(['404 page not found', '405 method not allowed'])
/** Statuses with which a proxy, or ollama.com, refuses llamero. The caller cannot change that. */
const unauthorized: ReadonlySet<number> = new Set([401, 403, 407])

/** Whether a refusal came from something in front of Ollama: every error of Ollama is JSON with a text. */
export function isForeign(refused: Refused): boolean {
  return ollamaError(refused) === null && !isRoutersOwn(refused) && refused.body.length > 0
}

/** Whether a refusal is no JSON, where any JSON is accepted. */
export function isPage(refused: Refused): boolean {
  const isJson = parseObject(refused.body.toString('utf8')) !== null
  return !isJson && !isRoutersOwn(refused) && (refused.body.length > 0 || isUnauthorized(refused))
}

/** Whether llamero itself was refused for lack of credentials. */
export function isUnauthorized({ status }: Refused): boolean {
  return unauthorized.has(status)
}

/** Whether Ollama does not know the path: it is older than the API. */
export function isRoutersOwn({ body }: Refused): boolean {
  return body.length < 64 && routersOwn.has(body.toString('latin1').trim())
}

/**
 * The error in place of a refusal that the caller must not get: a page, or a demand for credentials, which would look
 * as if the caller's own were wrong. Null when the refusal itself is the best response.
 */
export function replacementFor(refused: Refused, path: string): ProxyError | null {
  const { status, retryAfterMs } = refused
  if (isUnauthorized(refused)) return new ProxyError('node_unauthorized', { reason: refusalReason(refused) })
  if (isRoutersOwn(refused)) return new ProxyError('path_unknown_to_node', { path })
  if (!isForeign(refused) && refused.body.length > 0) return null
  const waitS = retryAfterMs === null ? {} : { retryAfter: retryAfterMs / 1000 }
  if (status === 413) return new ProxyError('proxy_body_limit')
  if (status === 429 || status === 503) return new ProxyError('proxy_busy', { status, ...waitS })
  if (status === 504)
    return new ProxyError('node_timeout', { reason: 'a proxy in front of it gave up waiting (status 504)' })
  if (status >= 500) return new ProxyError('node_failed', { reason: `a proxy in front of it says ${status}` })
  return new ProxyError('not_ollama', { status })
}

function refusalReason(refused: Refused): string {
  const said = ollamaError(refused)
  if (said === null) return `what is in front of it asks for credentials (status ${refused.status})`
  return `${refused.status} ${said.slice(0, 300)}`
}

function ollamaError({ body }: Refused): string | null {
  return errorText(parseObject(body.toString('utf8')) ?? {})
}
