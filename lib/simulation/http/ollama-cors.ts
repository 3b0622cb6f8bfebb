import type { IncomingHttpHeaders } from 'node:http'

const methods = 'GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS'
/** x-api-key and anthropic-version are not among them (docs/ollama.md#answers). */
const allowed =
  'Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,' +
  'X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,' +
  'X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,' +
  'X-Stainless-Runtime-Version,X-Stainless-Timeout'
const preflightVary = ['Origin', 'Access-Control-Request-Method', 'Access-Control-Request-Headers']

type Headers = Readonly<Record<string, string | readonly string[]>>

/** Whether gin-contrib/cors handles the request. It does not when the request has no Origin, or the node's own. */
export function isCrossOrigin({ origin, host }: IncomingHttpHeaders): boolean {
  return origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`
}

/** Further headers of an answer to a page of another, allowed origin. */
export function crossOriginHeaders(origin = '', isPreflight = false): Headers {
  const shared = { 'Access-Control-Allow-Origin': origin }
  if (!isPreflight) return { ...shared, Vary: 'Origin' }
  return {
    ...shared,
    Vary: preflightVary,
    'Access-Control-Allow-Methods': methods,
    'Access-Control-Allow-Headers': allowed,
    'Access-Control-Max-Age': '43200',
  }
}

/**
 * Whether the page that sent these headers may call: from the node itself or one of OLLAMA_ORIGINS' defaults; else 403
 * with no body (docs/ollama.md#http).
 */
export function isOriginAllowed(headers: IncomingHttpHeaders): boolean {
  const { origin = '' } = headers
  return (
    !isCrossOrigin(headers) ||
    /^https?:\/\/(localhost|127\.0\.0\.1|0\.0\.0\.0)(:.*)?$/.test(origin) ||
    /^(app|file|tauri|vscode-webview|vscode-file):\/\//.test(origin)
  )
}
