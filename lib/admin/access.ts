import { timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { Middleware } from 'koa'
import { hashToken } from '../fleet/api-key.ts'
import { expiryOf, findApiKey, tokenOf } from '../gateway/http/authenticate.ts'
import { isTrustedHost, proxyHeaderOf } from '../gateway/http/keyless.ts'
import { checkCallerHeaders } from '../gateway/http/request-checks.ts'
import { ProxyError } from '../shared/errors.ts'
import { isLoopback } from '../shared/net/address.ts'
import { viaLlamero } from '../shared/net/via.ts'
import type { AdminContext } from './admin-context.ts'

/**
 * Refuses requests with a malformed or repeated Host or key. On a loopback listener, also refuses those with a Host
 * that does not name this machine: a web page in a browser here could reach llamero through DNS rebinding. A caller with
 * the admin token or an admin's key is no web page.
 */
export function localHost(admin: AdminContext): Middleware {
  const isLocal = isLoopback(admin.listen.host)
  return async (context, next) => {
    context.set('via', viaLlamero)
    checkCallerHeaders(context.req)
    const { headers } = context
    const { auth } = admin.snapshot.get().config
    if (isLocal && !isTrustedHost(headers, auth) && !mayAdminister(headers, admin))
      throw new ProxyError('foreign_host', { host: (headers.host ?? '').slice(0, 200) })
    await next()
  }
}

/**
 * Checks permission for the admin API. Reads are open on a loopback listener, unless `auth.anonymous` says otherwise or a proxy
 * passed the request on. A change, and a read from elsewhere, needs the admin token or an API key of scope `admin`.
 * No request may come from a web page of another origin.
 */
export function access(admin: AdminContext): Middleware {
  const isLocal = isLoopback(admin.listen.host)
  return async (context, next) => {
    if (context.get('origin') !== '' && !isOwnOrigin(context.get('origin'), context.get('host'))) {
      throw new ProxyError('forbidden', {
        reason:
          'web pages of other origins may not use the admin API; send the request without an Origin header',
      })
    }
    const { auth } = admin.snapshot.get().config
    const isRead = context.method === 'GET' || context.method === 'HEAD'
    const isOpen =
      isLocal && isRead && auth.anonymous === 'loopback' && proxyHeaderOf(context.headers) === null
    if (!isOpen && !mayAdminister(context.headers, admin)) throw refusal(context.headers, admin)
    await next()
  }
}

function mayAdminister(headers: IncomingHttpHeaders, { snapshot, clock, token }: AdminContext): boolean {
  const shown = tokenOf(headers)
  if (!shown) return false
  if (timingSafeEqual(Buffer.from(hashToken(shown)), Buffer.from(hashToken(token)))) return true
  return findApiKey(snapshot.get(), shown, 'admin', clock) !== null
}

function refusal(headers: IncomingHttpHeaders, { snapshot, clock }: AdminContext): ProxyError {
  const shown = tokenOf(headers)
  const expired = shown === null ? null : expiryOf(snapshot.get(), shown, clock)
  return expired ?? new ProxyError('admin_token_required')
}

function isOwnOrigin(origin: string, host: string): boolean {
  return URL.parse(origin)?.host === host
}
