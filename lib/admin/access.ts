import { timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { Middleware } from 'koa'
import { hashToken } from '../fleet/api-key.ts'
import { findKey, tokenOf } from '../gateway/authenticate.ts'
import { isLoopback } from '../shared/address.ts'
import { ProxyError } from '../shared/errors.ts'
import type { AdminContext } from './context.ts'

/**
 * Who may use the admin API: reads are open on a loopback listener; a change, and any read from elsewhere, needs the
 * admin token or an API key of scope `admin`.
 *
 * On loopback the Host must name this machine, and no request may come from a web page of another origin: a page that
 * a browser on this machine shows could otherwise reach us through DNS rebinding (sheet reliability-security.md 110, 219).
 */
export function access(admin: AdminContext): Middleware {
  const open = isLoopback(admin.listen.host)
  const expected = Buffer.from(hashToken(admin.token))
  return async (context, next) => {
    const host = context
      .get('host')
      .replace(/:\d+$/, '')
      .replace(/^\[|\]$/g, '')
    if (open && !isLoopback(host))
      throw new ProxyError('forbidden', { reason: 'the Host header does not name this machine' })
    if (context.get('origin') !== '' && !isOwnOrigin(context.get('origin'), context.get('host'))) {
      throw new ProxyError('forbidden', { reason: 'requests from other web origins are refused' })
    }
    const isRead = context.method === 'GET' || context.method === 'HEAD'
    if (!(open && isRead) && !mayAdminister(context.headers, expected, admin))
      throw new ProxyError('admin_token_required')
    await next()
  }
}

function mayAdminister(
  headers: IncomingHttpHeaders,
  expected: Buffer,
  { snapshot, clock }: AdminContext,
): boolean {
  const token = tokenOf(headers)
  if (!token) return false
  if (timingSafeEqual(Buffer.from(hashToken(token)), expected)) return true
  return findKey(snapshot.get(), token, 'admin', clock) !== null
}

function isOwnOrigin(origin: string, host: string): boolean {
  return URL.parse(origin)?.host === host
}
