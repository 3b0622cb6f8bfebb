import { connect } from 'node:net'
import type { Clock } from '../shared/clock.ts'
import { lookupNode } from '../shared/node-address.ts'
import { ownFaultOf } from '../shared/own-fault.ts'

/** Of the node or the way to it. Others (no name server, no file or port left here) say nothing of either. */
const deadCodes: ReadonlySet<string> = new Set(['EHOSTUNREACH', 'EHOSTDOWN', 'ENETUNREACH', 'ENETDOWN'])

/** Whether an error of a connection says that its other end cannot be reached. */
export function provesUnreachable(error: Error & { code?: unknown; syscall?: unknown }): boolean {
  if (error.code === 'ECONNECT_TIMEOUT' || deadCodes.has(String(error.code))) return true
  const errors: unknown[] = error instanceof AggregateError ? error.errors : [error]
  return errors.every(failedToConnect) && ownFaultOf(error) === null
}

function failedToConnect(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === 'connect'
}

/**
 * Whether a new connection comes up; null where that cannot be told. A connection whose way is gone says nothing for as long
 * as the kernel sends again, a quarter of an hour (tcp_retries2 in tcp(7)), and Node cannot set TCP_USER_TIMEOUT.
 */
export function canConnect(
  host: string,
  port: number,
  limitMs: number,
  clock: Clock,
): Promise<boolean | null> {
  const { promise, resolve } = Promise.withResolvers<boolean | null>()
  const socket = connect({ host, port, lookup: lookupNode })
  const cancel = clock.after(limitMs, () => end(false))
  const end = (found: boolean | null) => {
    cancel()
    socket.destroy()
    resolve(found)
  }
  socket.on('connect', () => end(true))
  socket.on('error', (error) => end(provesUnreachable(error) ? false : null))
  return promise
}
