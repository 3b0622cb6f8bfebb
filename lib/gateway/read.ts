import type { Readable } from 'node:stream'
import { constants, createZstdDecompress } from 'node:zlib'
import { ProxyError } from '../shared/errors.ts'
import type { BodyShare } from './body-budget.ts'
import type { Exchange } from './exchange.ts'
import { HeldBytes, type Limits } from './held-bytes.ts'

/** As Ollama limits what a compressed body unfolds to (sheet ollama-api.md §1.1). */
const maxUnfoldedBytes = 20 * 1024 * 1024
/** Of the memory that a frame may ask for, as a power of two: what the largest body could make use of. */
const maxWindowLog = 25

/**
 * Reads the whole body, whose bytes count against `share` before they are asked for. What comes as zstd, where `zstd`
 * allows it, is unfolded.
 *
 * @throws ProxyError `body_too_large`, `bodies_full`, `unsupported_encoding`, `broken_zstd`; the signal's reason when it
 *   aborts first.
 */
export function readBody(
  exchange: Exchange,
  limits: Limits,
  share: BodyShare,
  zstd = false,
): Promise<HeldBytes> {
  const read = encodingOf(exchange, zstd) === 'zstd' ? unfold : take
  return read(exchange, limits, share)
}

/** @throws ProxyError `unsupported_encoding` for any but none, and zstd where it is allowed. */
export function encodingOf({ request }: Exchange, zstd: boolean): 'identity' | 'zstd' {
  const encoding = request.headers['content-encoding']?.toLowerCase() ?? 'identity'
  if (encoding === 'identity' || (zstd && encoding === 'zstd')) return encoding
  throw new ProxyError('unsupported_encoding', { encoding })
}

function take(exchange: Exchange, limits: Limits, share: BodyShare): Promise<HeldBytes> {
  const { request, response } = exchange
  const body = new HeldBytes(limits, share)
  body.reserve(Number(request.headers['content-length'] ?? 0))
  if (exchange.expectsContinue) response.writeContinue()
  return collect(exchange, request, body)
}

async function unfold(exchange: Exchange, limits: Limits, share: BodyShare): Promise<HeldBytes> {
  const { request, response } = exchange
  const body_bytes = Math.min(limits.body_bytes, maxUnfoldedBytes)
  // Folded as well, it can be no larger: what is not compressible grows by a few bytes only.
  const announced = Number(request.headers['content-length'] ?? 0)
  if (announced > limits.body_bytes) throw new ProxyError('body_too_large', { limit: limits.body_bytes })
  if (exchange.expectsContinue) response.writeContinue()
  const unfolding = createZstdDecompress({
    params: { [constants.ZSTD_d_windowLogMax]: maxWindowLog },
  })
  request.on('error', (error) => unfolding.destroy(error))
  try {
    return await collect(exchange, request.pipe(unfolding), new HeldBytes({ ...limits, body_bytes }, share))
  } catch (error) {
    if (error instanceof ProxyError || exchange.signal.aborted) throw error
    throw new ProxyError('broken_zstd', {}, { cause: error })
  } finally {
    request.unpipe(unfolding)
    unfolding.destroy()
  }
}

function collect({ signal }: Exchange, source: Readable, body: HeldBytes): Promise<HeldBytes> {
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const settle = () => signal.removeEventListener('abort', abort)
    const fail = (error: unknown) => {
      settle()
      source.off('data', add)
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
    source.on('data', add)
    source.on('end', () => {
      settle()
      // Not its bytes: a promise asks what it resolves to for a `then`, which a Buffer is slow to deny.
      resolve(body)
    })
    // The connection broke within the body, or what it brought cannot be unfolded.
    source.on('error', fail)
  })
}
