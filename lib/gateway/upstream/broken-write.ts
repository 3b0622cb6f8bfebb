import type { Socket } from 'node:net'

type Written = (error?: Error | null) => void

/** Error codes of a write to a connection that the other end has closed. */
const closedCodes: ReadonlySet<string> = new Set(['EPIPE', 'ECONNRESET'])

/**
 * Reads the response that came before a write failed. A server may respond in the middle of an upload and close: the
 * response is then in the kernel, which returns it even after a reset (tcp_recvmsg reads its queue first). Node
 * closes the socket as soon as it learns of the failed write, so the error is held back until a turn of the event
 * loop reads nothing more.
 */
export function readPastBrokenWrite(socket: Socket): void {
  if (Object.hasOwn(socket, '_write')) return
  const write = socket._write
  const writeAll = socket._writev
  const late =
    (written: Written): Written =>
    (error) => {
      if (isBrokenWrite(error)) void readOut(socket).then(() => written(error))
      else written(error)
    }
  socket._write = (chunk, encoding, written) => write.call(socket, chunk, encoding, late(written))
  if (writeAll) socket._writev = (chunks, written) => writeAll.call(socket, chunks, late(written))
}

function isBrokenWrite(error: (Error & { code?: unknown }) | null | undefined): boolean {
  return closedCodes.has(String(error?.code))
}

async function readOut(socket: Socket): Promise<void> {
  for (let before = -1; !socket.destroyed && socket.bytesRead > before; ) {
    before = socket.bytesRead
    // The first turn ends the iteration in which the write failed; the second turn reads.
    await nextTurn()
    await nextTurn()
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
