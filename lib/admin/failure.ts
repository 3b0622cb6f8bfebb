import type { Middleware } from 'koa'
import { ProxyError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { StoreError } from '../store/store.ts'

/** Writes whatever is thrown below it as `{"error": {"code", "message"}}`; stacks go to the log only. */
export function failures(log: Log): Middleware {
  return async (context, next) => {
    try {
      await next()
    } catch (thrown) {
      const error = asProxyError(thrown)
      if (error.code === 'internal') log.error('admin request failed', { path: context.path, error: thrown })
      context.status = error.status
      if (error.retryAfter !== undefined) context.set('retry-after', String(error.retryAfter))
      context.body = { error: { code: error.code, message: error.message } }
      // What is left of a refused body would stand in the way of the next request of its connection.
      context.req.unpipe()
      context.req.resume()
    }
  }
}

function asProxyError(thrown: unknown): ProxyError {
  if (thrown instanceof ProxyError) return thrown
  if (thrown instanceof StoreError)
    return new ProxyError('store_unavailable', { reason: thrown.message }, { cause: thrown })
  // http-errors of koa and its body parser: a broken or too large body.
  const status = (thrown as { status?: unknown }).status
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return new ProxyError('bad_request', { reason: (thrown as Error).message }, { cause: thrown })
  }
  return new ProxyError('internal', {}, { cause: thrown })
}
