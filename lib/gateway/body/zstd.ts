import type { Readable } from 'node:stream'
import { constants, createZstdDecompress, type ZstdDecompress } from 'node:zlib'

/** Bytes of a frame header that contain its window size, in any form (RFC 8878 §3.1.1). */
const headBytes = 18
const magic = 0xfd2fb528
/** More than the largest decompressed body can use. */
const maxWindowBytes = 2 ** 25
const minWindowLog = 10
/** Memory of libzstd beside the window: tables, and a block at either end. */
const contextBytes = 512 * 1024
/** The largest block. With smaller pieces each would take a turn of the thread pool. */
const blockBytes = 128 * 1024

/** The first bytes of a stream, which stay in it; fewer when it ends sooner. Rejects when it breaks. */
export function peekHead(source: Readable): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const look = () => {
    const head = source.read(headBytes) as Buffer | null
    if (head === null && !source.readableEnded) return
    source.off('readable', look).off('end', look).off('error', reject)
    if (head !== null && !source.readableEnded) source.unshift(head)
    resolve(head ?? Buffer.alloc(0))
  }
  source.on('readable', look).on('end', look).on('error', reject)
  return promise
}

/** Memory for decompression; null when the head is not zstd, or asks for more than any body needs. */
export function memoryOf(head: Buffer): number | null {
  const window = windowOf(head)
  return window !== null && window <= maxWindowBytes ? window + contextBytes : null
}

/** A decompressor for the first frame, with the memory that it asks for. Node reads no later frame. */
export function createDecompressor(memoryBytes: number): ZstdDecompress {
  const windowLog = Math.ceil(Math.log2(memoryBytes - contextBytes))
  return createZstdDecompress({
    chunkSize: blockBytes,
    params: { [constants.ZSTD_d_windowLogMax]: Math.max(minWindowLog, windowLog) },
  })
}

/** The window size of the first frame; for a single segment, the size of its content (RFC 8878 §3.1.1.1). */
function windowOf(head: Buffer): number | null {
  if (head.length < 6 || head.readUInt32LE(0) !== magic) return null
  const descriptor = head.readUInt8(4)
  const isSingle = (descriptor & 0x20) !== 0
  if (!isSingle) {
    const exponent = head.readUInt8(5) >> 3
    const base = 2 ** (10 + exponent)
    return base + (base / 8) * (head.readUInt8(5) & 7)
  }
  const at = 5 + ([0, 1, 2, 4][descriptor & 3] ?? 0)
  const size = [1, 2, 4, 8][descriptor >> 6] ?? 1
  if (head.length < at + size) return null
  if (size === 8) return Number(head.readBigUInt64LE(at))
  return head.readUIntLE(at, size) + (size === 2 ? 256 : 0)
}
