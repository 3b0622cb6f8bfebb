import { bodyParser } from '@koa/bodyparser'
import type { Middleware } from 'koa'
import { ProxyError } from '../shared/errors.ts'

const limitBytes = 256 * 1024

/** Reads JSON bodies, also compressed ones; the limit is for the decompressed size. Every fault is the caller's (4xx). */
export function jsonBodies(): Middleware {
  const parse = bodyParser({
    enableTypes: ['json'],
    jsonLimit: limitBytes,
    onError: (error, context) => {
      throw refusalOf(error, context.get('content-encoding').slice(0, 80))
    },
  })
  return (context, next) =>
    parse(context, () => {
      if (isDeeperThan(maxDepth, context.request.body))
        throw new ProxyError('bad_request', { reason: `the body is nested deeper than ${maxDepth} levels` })
      return next()
    })
}

/** Documents of llamero need less than half of it; writing a body of ten thousand levels would overflow the stack. */
const maxDepth = 32

function isDeeperThan(levels: number, value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  return levels === 0 || Object.values(value).some((each) => isDeeperThan(levels - 1, each))
}

function refusalOf(error: Error & { status?: unknown }, encoding: string): ProxyError {
  if (error.status === 413) return new ProxyError('body_too_large', { limit: limitBytes })
  if (error.status === 415) return new ProxyError('unsupported_encoding', { encoding })
  // zlib's errors have no status.
  if (error.status === undefined && encoding !== '')
    return new ProxyError('bad_request', {
      reason: `the request body is not valid ${encoding}, the encoding that its Content-Encoding names`,
    })
  return new ProxyError('bad_request', { reason: error.message })
}
