import type { ServerResponse } from 'node:http'
import type { Exchange } from './exchange.ts'

const lingerMs = 1000

/**
 * Writes the last bytes of a response. When the caller is still sending its body, the connection closes only after the
 * body has ended, or after a second: closing a socket with unread bytes sends a reset, which overtakes the response.
 */
export function endAfterBody({ request, response }: Exchange, last: string | Buffer): void {
  if (request.complete) {
    response.end(last)
    return
  }
  response.write(last)
  const end = () => {
    clearTimeout(timer)
    response.end()
  }
  const timer = setTimeout(end, lingerMs).unref()
  request.once('end', end)
  request.once('close', end)
  request.resume()
}

/**
 * Closes the connection of a caller that does not read the rest of a written response for `idleMs`: it would hold a socket
 * and memory. Node lifts the limit when the response is out. A response that is out already needs no timer.
 */
export function limitFlush({ socket }: ServerResponse, idleMs: number): void {
  if (socket && socket.writableLength > 0) socket.setTimeout(idleMs)
}
