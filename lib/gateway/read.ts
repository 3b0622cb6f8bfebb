import { ProxyError } from '../shared/errors.ts'
import type { Exchange } from './exchange.ts'

/**
 * Reads the whole body, at most `limit` bytes.
 *
 * @throws ProxyError `body_too_large`, `unsupported_encoding`, `missing_body`; the signal's reason when the caller goes.
 */
export async function readBody(exchange: Exchange, limit: number): Promise<Buffer> {
  const { request, response } = exchange
  const encoding = request.headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity')
    throw new ProxyError('unsupported_encoding', { encoding })
  if (Number(request.headers['content-length'] ?? 0) > limit)
    throw new ProxyError('body_too_large', { limit })
  if (exchange.expectsContinue) response.writeContinue()
  const body = await collect(exchange, limit)
  if (body.length === 0) throw new ProxyError('missing_body')
  return body
}

function collect({ request, signal }: Exchange, limit: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const chunks: Buffer[] = []
  let size = 0
  const abort = () => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  request.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size > limit) {
      request.removeAllListeners('data')
      reject(new ProxyError('body_too_large', { limit }))
    } else chunks.push(chunk)
  })
  request.once('end', () =>
    resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, size)),
  )
  // Bad framing in the middle of a body: the listener's clientError answers it, and the closed socket ends the wait.
  request.once('error', reject)
  return promise.finally(() => signal.removeEventListener('abort', abort))
}
