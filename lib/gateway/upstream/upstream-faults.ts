import type { ClientRequest, IncomingMessage } from 'node:http'
import { isConnectError } from '../../shared/net/connect-error.ts'
import { ownFaultOf } from '../../shared/process/own-fault.ts'
import type { UpstreamFault } from '../response/outcome.ts'

/** Error codes of an established connection. */
const unreachableCodes = new Set(['EHOSTUNREACH', 'EHOSTDOWN', 'ENETUNREACH', 'ENETDOWN'])
const tlsCodes = /^(ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/

/**
 * A node may close an idle connection while a request is written to it: the loss is noticed within a round trip. A
 * connection that breaks later broke while the node worked.
 */
const crossingMs = 500

/** How far a request was when its connection failed. */
interface Sent {
  readonly request: ClientRequest | null
  /** Milliseconds since its last byte was written. */
  readonly forMs: number
  /** Bytes of a response came back, if only part of the head. */
  readonly heard: boolean
}

/** The fault of an attempt that failed before its response began. */
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

/**
 * Why a response head is unacceptable, or null: no redirect is followed, no compression was asked for, and HTML is no
 * response of Ollama.
 */
export function flawOf({ statusCode: status = 0, headers }: IncomingMessage): string | null {
  if (status < 200 || status > 599 || (status >= 300 && status < 400))
    return `the node answered with status ${status}`
  if (status < 400 && headers['content-type']?.startsWith('text/html'))
    return 'the node answered with an HTML page'
  const encoding = headers['content-encoding'] ?? 'identity'
  return encoding === 'identity' ? null : `the node compressed its answer with ${encoding}`
}
