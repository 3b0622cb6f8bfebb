import { bodyParser } from '@koa/bodyparser'
import type { Middleware } from 'koa'
import { excess, refusedUnread } from '../fleet/documents/document-text.ts'
import { ProxyError } from '../shared/errors.ts'

const limitBytes = 256 * 1024
/** Documents of llamero need less than half of it; writing a body of ten thousand levels would overflow the stack. */
const maxDepth = 32

/**
 * Reads JSON bodies, also compressed ones; the limit is for the decompressed size. Every fault is the caller's (4xx). The
 * package reads them as text, since a body of 20,000 fields is refused before it is parsed.
 */
export function jsonBodies(): Middleware {
  const read = bodyParser({
    enableTypes: ['text'],
    extendTypes: { text: ['json', '+json'] },
    textLimit: limitBytes,
    onError: (error, context) => {
      throw refusalOf(error, context.get('content-encoding').slice(0, 80))
    },
  })
  return (context, next) =>
    read(context, () => {
      const { body } = context.request
      if (typeof body === 'string') context.request.body = body === '' ? {} : parse(body)
      return next()
    })
}

/** @throws ProxyError `bad_request` */
function parse(text: string): unknown {
  const [excessive] = refusedUnread(text) ?? []
  const body: unknown = excessive ? null : parseJson(text)
  const reason = excessive?.message ?? excess(body, { levels: maxDepth })
  if (reason !== null) throw new ProxyError('bad_request', { reason: `the body ${reason}` })
  return body
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ProxyError('bad_request', { reason: `the body is not JSON: ${(error as Error).message}` })
  }
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
