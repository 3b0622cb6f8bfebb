import type { Readable } from 'node:stream'
import { orAborted } from '../../shared/abort.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Exchange } from '../http/exchange.ts'
import type { BodyShare } from './body-budget.ts'
import { BodyBuffer, type BodyLimits, roomOf } from './body-buffer.ts'
import { type IncomingBody, type SlowBodies, slowestPace } from './slow-bodies.ts'
import { createDecompressor, memoryOf, peekHead } from './zstd.ts'

/** Ollama's limit for decompressed bodies (server/routes.go, zstd request bodies). */
const maxUnfoldedBytes = 20 * 1024 * 1024

interface Reading {
  readonly limits: BodyLimits
  readonly share: BodyShare
  readonly slow: SlowBodies
}

/**
 * Reads the whole body into `share`. With `zstd`, a compressed body is decompressed.
 *
 * @throws ProxyError `body_too_large`, `bodies_full`, `body_too_slow`, `unsupported_encoding`, `broken_zstd`; the signal's
 *   reason when it aborts first.
 */
export function readBody(exchange: Exchange, reading: Reading, zstd = false): Promise<BodyBuffer> {
  const read = encodingOf(exchange, zstd) === 'zstd' ? readZstd : readPlain
  return read(exchange, reading)
}

/** @throws ProxyError `unsupported_encoding` for encodings other than none, and zstd where allowed. */
export function encodingOf({ request }: Exchange, zstd: boolean): 'identity' | 'zstd' {
  const encoding = request.headers['content-encoding']?.toLowerCase() ?? 'identity'
  if (encoding === 'identity' || (zstd && encoding === 'zstd')) return encoding
  throw new ProxyError('unsupported_encoding', { encoding })
}

function readPlain(exchange: Exchange, { limits, share, slow }: Reading): Promise<BodyBuffer> {
  const { request, response } = exchange
  const body = new BodyBuffer(limits, share)
  body.announce(Number(request.headers['content-length'] ?? 0))
  if (exchange.expectsContinue) response.writeContinue()
  return collect(exchange, request, body, slow)
}

async function readZstd(exchange: Exchange, { limits, share, slow }: Reading): Promise<BodyBuffer> {
  const { request, response, signal } = exchange
  const body_bytes = Math.min(limits.body_bytes, maxUnfoldedBytes)
  // A compressed body is no larger than its content, but for a few bytes.
  const announced = Number(request.headers['content-length'] ?? 0)
  if (announced > limits.body_bytes) throw new ProxyError('body_too_large', { limit: limits.body_bytes })
  if (exchange.expectsContinue) response.writeContinue()
  const memory = memoryOf(await orAborted(peekHead(request), signal))
  if (memory === null) throw new ProxyError('broken_zstd')
  const { alone, together } = roomOf(limits)
  if (!share.take(memory, { alone: alone + memory, together })) throw new ProxyError('bodies_full')
  const decompressor = createDecompressor(memory)
  request.on('error', (error) => decompressor.destroy(error))
  const body = new BodyBuffer({ ...limits, body_bytes }, share)
  try {
    return await collect(exchange, request.pipe(decompressor), body, slow)
  } catch (error) {
    if (error instanceof ProxyError || signal.aborted) throw error
    throw new ProxyError('broken_zstd', {}, { cause: error })
  } finally {
    request.unpipe(decompressor)
    decompressor.destroy()
    share.release(memory)
  }
}

function collect(
  { signal }: Exchange,
  source: Readable,
  body: BodyBuffer,
  slow: SlowBodies,
): Promise<BodyBuffer> {
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<BodyBuffer>()
  const fail = (error: unknown) => {
    slow.delete(watched)
    source.off('data', add)
    reject(error)
  }
  const watched = new WatchedBuffer(body, fail)
  const add = (chunk: Buffer) => {
    try {
      body.add(chunk)
    } catch (error) {
      fail(error)
    }
  }
  slow.add(watched)
  // Not removed later: when the body is complete, the listener has no effect.
  signal.addEventListener('abort', () => fail(signal.reason), { once: true })
  source.on('data', add)
  source.on('end', () => {
    slow.delete(watched)
    // Resolved with the buffer object, not its bytes: a promise reads `then` of its value, which is slow for a
    // Buffer.
    resolve(body)
  })
  // The connection broke within the body, or it cannot be decompressed.
  source.on('error', fail)
  return promise
}

/** A class: a getter in an object literal is slow in V8, a hundredth of a small request. */
class WatchedBuffer implements IncomingBody {
  readonly isAwaitingCaller = true
  readonly pace = slowestPace
  readonly #body: BodyBuffer
  readonly #fail: (error: ProxyError) => void

  constructor(body: BodyBuffer, fail: (error: ProxyError) => void) {
    this.#body = body
    this.#fail = fail
  }

  get bytes(): number {
    return this.#body.size
  }

  tooSlow(): void {
    this.#fail(new ProxyError('body_too_slow', { rate: slowestPace.bytesPerS }))
  }
}
