import type { Middleware } from 'koa'
import { ProxyError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { type Store, StoreError } from '../store/store.ts'
import { remedyOf } from './store-knowledge.ts'

/** Answers every error of the inner middleware as `{"error": {"code", "message"}}`; stacks go only to the log. */
export function failures({
  log,
  store,
}: {
  readonly log: Log
  readonly store: Pick<Store, 'endpoints'>
}): Middleware {
  return async (context, next) => {
    try {
      await next()
    } catch (thrown) {
      const error = asProxyError(thrown, store)
      const hint = isUnanswered(thrown) ? remedyOf(store) : null
      if (error.code === 'internal') log.error('admin request failed', { path: context.path, error: thrown })
      context.status = error.status
      if (error.retryAfter !== undefined) context.set('retry-after', String(error.retryAfter))
      context.body = { error: { code: error.code, message: error.message, ...(hint !== null && { hint }) } }
      // The unread rest of a refused body would block the next request of the connection.
      context.req.unpipe()
      context.req.resume()
    }
  }
}

function isUnanswered(thrown: unknown): thrown is StoreError {
  return thrown instanceof StoreError && thrown.fault === 'unavailable'
}

function asProxyError(thrown: unknown, { endpoints = [] }: Pick<Store, 'endpoints'>): ProxyError {
  if (thrown instanceof ProxyError) return thrown
  if (thrown instanceof StoreError) {
    const where = isUnanswered(thrown) && endpoints.length > 0 ? ` at ${endpoints.join(', ')}` : ''
    return new ProxyError('store_unavailable', { reason: thrown.message + where }, { cause: thrown })
  }
  // http-errors of koa and its body parser: a broken body or one above the limit.
  const status = (thrown as { status?: unknown }).status
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return new ProxyError('bad_request', { reason: (thrown as Error).message }, { cause: thrown })
  }
  return new ProxyError('internal', {}, { cause: thrown })
}
