import type { Config } from '../fleet/config.ts'
import { ProxyError } from '../shared/errors.ts'
import type { BodyShare } from './body-budget.ts'
import type { Exchange } from './exchange.ts'

type Limits = Config['limits']

/**
 * Reads the whole body, whose bytes count against `share` before they are asked for.
 *
 * @throws ProxyError `body_too_large`, `bodies_full`, `unsupported_encoding`, `missing_body`; the signal's reason when it
 *   aborts first.
 */
export async function readBody(exchange: Exchange, limits: Limits, share: BodyShare): Promise<Buffer> {
  const { request, response } = exchange
  const encoding = request.headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity')
    throw new ProxyError('unsupported_encoding', { encoding })
  const body = new Body(limits, share)
  body.reserve(Number(request.headers['content-length'] ?? 0))
  if (exchange.expectsContinue) response.writeContinue()
  const bytes = await collect(exchange, body)
  if (bytes.length === 0) throw new ProxyError('missing_body')
  return bytes
}

/**
 * Bytes in one buffer that counts as large as it is allocated: made once where the length is announced, else doubled.
 * Chunks kept as they come would weigh a hundred times their bytes when each is one byte long.
 */
class Body {
  readonly #limits: Limits
  readonly #share: BodyShare
  #buffer = Buffer.alloc(0)
  #size = 0

  constructor(limits: Limits, share: BodyShare) {
    this.#limits = limits
    this.#share = share
  }

  /** Makes room for `capacity` bytes in all. @throws ProxyError `body_too_large`, `bodies_full`. */
  reserve(capacity: number): void {
    const { body_bytes: limit, inflight_body_bytes: together } = this.#limits
    if (capacity > limit) throw new ProxyError('body_too_large', { limit })
    // However small the budget is set, one largest body can pass.
    if (!this.#share.take(capacity - this.#buffer.length, Math.max(limit, together)))
      throw new ProxyError('bodies_full')
    const grown = Buffer.allocUnsafe(capacity)
    this.#buffer.copy(grown, 0, 0, this.#size)
    this.#buffer = grown
  }

  add(chunk: Buffer): void {
    const size = this.#size + chunk.length
    if (size > this.#buffer.length) {
      const doubled = Math.min(this.#buffer.length * 2, this.#limits.body_bytes)
      this.reserve(Math.max(size, doubled))
    }
    chunk.copy(this.#buffer, this.#size)
    this.#size = size
  }

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#size)
  }
}

function collect({ request, signal }: Exchange, body: Body): Promise<Buffer> {
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const settle = () => {
      signal.removeEventListener('abort', abort)
      request.off('data', add)
    }
    const fail = (error: unknown) => {
      settle()
      reject(error)
    }
    const abort = () => fail(signal.reason)
    const add = (chunk: Buffer) => {
      try {
        body.add(chunk)
      } catch (error) {
        fail(error)
      }
    }
    signal.addEventListener('abort', abort, { once: true })
    request.on('data', add)
    request.once('end', () => {
      settle()
      resolve(body.bytes)
    })
    // The connection broke within the body.
    request.once('error', fail)
  })
}
