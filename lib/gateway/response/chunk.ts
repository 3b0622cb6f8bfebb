import type { ServerResponse } from 'node:http'

/** Larger pieces are not copied. */
const maxCopiedBytes = 16 * 1024
const carriageReturn = 0x0d
const lineFeed = 0x0a

/**
 * Writes one piece of a streamed response. Node writes a chunk as four pieces, gathered on the next tick; framed here
 * it is one buffer and one write, which makes a streamed token about a third cheaper (`npm run bench`).
 *
 * The head must be written: the first piece goes with it through `response`. Both ways use the same socket, so the
 * order of the bytes is the order of the calls.
 */
export function writeChunk(response: ServerResponse, piece: Buffer): void {
  const { socket } = response
  if (!socket || !response.chunkedEncoding || piece.length > maxCopiedBytes) response.write(piece)
  else socket.write(framed(piece))
}

/** A chunk of RFC 9112 §7.1. */
function framed(piece: Buffer): Buffer {
  const size = piece.length.toString(16)
  const start = size.length + 2
  const bytes = Buffer.allocUnsafe(start + piece.length + 2)
  bytes.write(size, 0, 'latin1')
  bytes[start - 2] = carriageReturn
  bytes[start - 1] = lineFeed
  bytes.set(piece, start)
  bytes[start + piece.length] = carriageReturn
  bytes[start + piece.length + 1] = lineFeed
  return bytes
}
