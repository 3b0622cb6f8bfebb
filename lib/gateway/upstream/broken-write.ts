import type { Socket } from 'node:net'

type Written = (error?: Error | null) => void

/** What the kernel says when the other end has closed. */
const closedCodes: ReadonlySet<string> = new Set(['EPIPE', 'ECONNRESET'])

/**
 * Reads what came before a write failed. A server may answer in the middle of an upload and close: the answer then lies
 * in the kernel, which hands it out after the reset as well (tcp_recvmsg looks at its queue first). Node closes the socket
 * as soon as it hears of the failed write, so it hears of it when a turn of the event loop brings nothing more.
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
    // The first ends the iteration of the loop that found the write broken, the second the one that reads.
    await nextTurn()
    await nextTurn()
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
