import { createHash } from 'node:crypto'
import { nativeErrors } from '../dialects/native.ts'
import { blobPath } from '../disk/blobs.ts'
import { bytesPerMiB } from '../disk/layers.ts'
import type { Machine, NodeExchange } from '../machine.ts'
import { Refusal } from '../refusal.ts'
import { diskFull } from './transfer.ts'

const empty = { type: '', text: '' }
const digestPattern = /^sha256[:-][0-9a-fA-F]{64}$/
const ggufMagic = 'GGUF'

/** `HEAD /api/blobs/:digest`: 200, 404, or 400 for a malformed digest, without a body. */
export function headBlob({ blobs }: Machine, { tail, reply }: NodeExchange): Promise<void> {
  if (!digestPattern.test(tail)) return reply.whole(400, empty)
  return reply.whole(blobs.has(keyOf(tail)) ? 200 : 404, empty)
}

/**
 * `POST /api/blobs/:digest`: the body is hashed as it comes and never held. 201; or, when the blob exists, 200 with the body
 * unread, and the connection ends.
 */
export async function postBlob({ blobs }: Machine, exchange: NodeExchange): Promise<void> {
  const { tail, reply, pacer } = exchange
  if (!digestPattern.test(tail)) return reply.whole(400, errorBody(400, 'invalid digest format'))
  const expected = keyOf(tail)
  if (blobs.has(expected)) return reply.unread(200)
  const received = await receive(exchange)
  if (received === 'left') return pacer.until(() => () => {})
  if (received instanceof Refusal)
    return reply.whole(received.status, errorBody(received.status, received.message))
  if (received.digest !== expected) {
    const text = `digest mismatch, expected ${JSON.stringify(expected)}, got ${JSON.stringify(received.digest)}`
    return reply.whole(400, errorBody(400, text))
  }
  blobs.put(expected, { bytes: received.bytes, isGguf: received.magic === ggufMagic })
  await reply.whole(201, empty)
}

interface Received {
  readonly digest: string
  readonly bytes: number
  /** The first four bytes. */
  readonly magic: string
}

async function receive({ upload, plan, tail }: NodeExchange): Promise<Received | Refusal | 'left'> {
  const fullAt = plan.diskFull ? plan.diskFull.atMiB * bytesPerMiB : Number.POSITIVE_INFINITY
  const hash = createHash('sha256')
  let bytes = 0
  let magic = ''
  try {
    // An answer before the end of the body needs the socket that a plain loop would destroy.
    for await (const chunk of upload.iterator({ destroyOnReturn: false })) {
      hash.update(chunk)
      bytes += chunk.length
      if (magic.length < ggufMagic.length)
        magic = (magic + chunk.toString('latin1', 0, 4)).slice(0, ggufMagic.length)
      if (bytes > fullAt) return diskFull(blobPath(keyOf(tail)))
    }
  } catch {
    return 'left'
  }
  return { digest: `sha256:${hash.digest('hex')}`, bytes, magic }
}

function keyOf(digest: string): string {
  return digest.replace('-', ':').toLowerCase()
}

function errorBody(status: number, text: string) {
  return nativeErrors.late(status, text, false)
}
