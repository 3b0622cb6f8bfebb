import type { ClientRequest, IncomingMessage } from 'node:http'
import { isConnectError } from '../../shared/net/connect-error.ts'
import { ownFaultOf } from '../../shared/process/own-fault.ts'
import type { UpstreamFault } from '../response/outcome.ts'

/** Of a connection that had come up. */
const unreachableCodes = new Set(['EHOSTUNREACH', 'EHOSTDOWN', 'ENETUNREACH', 'ENETDOWN'])
const tlsCodes = /^(ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/

/**
 * A node that closes an idle connection and a request that is written to it cross on the way: the loss is noticed within a
 * round trip. A connection that breaks later broke while the node worked.
 */
const crossingMs = 500

/** How far a request had come when its connection failed. */
interface Sent {
  readonly request: ClientRequest | null
  /** Milliseconds since the last of it was written. */
  readonly forMs: number
  /** Bytes came back, if only half a head. */
  readonly heard: boolean
}

/** What went wrong with a node that had not begun to answer. */
export function faultOf(error: Error & { code?: unknown }, { request, forMs, heard }: Sent): UpstreamFault {
  if (ownFaultOf(error)) return 'own-fault'
  const code = String(error.code ?? '')
  if (code === 'ECONNECT_TIMEOUT') return 'connect-timeout'
  if (isConnectError(error) || unreachableCodes.has(code) || tlsCodes.test(code)) return 'unreachable'
  if (code.startsWith('HPE_')) return 'bad-response'
  if (code === 'ETIMEDOUT') return 'connection-lost'
  const lost = code === 'ECONNRESET' || code === 'EPIPE'
  const crossed = request?.reusedSocket && !heard && forMs <= crossingMs
  return lost && crossed ? 'stale-socket' : 'reset'
}

/** What no answer may be, or null: no redirect is followed, we asked for no compression, and no page answers a question. */
export function flawOf({ statusCode: status = 0, headers }: IncomingMessage): string | null {
  if (status < 200 || status > 599 || (status >= 300 && status < 400))
    return `the node answered with status ${status}`
  if (status < 400 && headers['content-type']?.startsWith('text/html'))
    return 'a page of HTML came in place of an answer'
  const encoding = headers['content-encoding'] ?? 'identity'
  return encoding === 'identity' ? null : `the node compressed its answer with ${encoding}`
}
