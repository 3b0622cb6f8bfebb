import { type Agent, errors } from 'undici'
import type { NodeSpec } from '../../fleet/node.ts'
import { messageOf } from '../../shared/errors.ts'
import { lookupNode } from '../../shared/net/node-address.ts'

/**
 * Options of the connections that the control side makes to a node.
 *
 * @param connectMs milliseconds a connection may take to come up
 */
export function connectionTo({ tls }: NodeSpec, connectMs: number): Agent.Options {
  return {
    pipelining: 1,
    allowH2: false, // Ollama speaks HTTP/1.1 only (docs/ollama.md#http)
    connect: {
      timeout: connectMs,
      lookup: lookupNode,
      ...(tls && { rejectUnauthorized: !tls.insecure }),
      ...(tls?.ca !== undefined && { ca: tls.ca }),
    },
  }
}

/** Rejects when the signal aborts, so that a request that the client library lost cannot block its caller for ever. */
export function abortOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

/** A response that Ollama would not send. The message says how it differs. */
export class Unexpected extends Error {}

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'network unreachable',
  ENETDOWN: 'the network of this machine is down',
  EACCES: 'a firewall or route of this machine forbids it',
  EPERM: 'a firewall or route of this machine forbids it',
  ENOTFOUND: 'host name not found',
  EAI_AGAIN: 'host name cannot be looked up',
  ERR_REFUSED_ADDRESS: 'its name leads to a link-local or metadata address',
  UND_ERR_CONNECT_TIMEOUT: 'no connection in time',
  UND_ERR_SOCKET: 'connection closed by the node',
  UND_ERR_INVALID_ARG: 'one of its headers cannot be sent',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is not trusted',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is not trusted',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is not trusted',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is not trusted',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name',
}

/** The code of an error of the system or the client library; null for other errors. */
export function codeOf(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null
  return typeof code === 'string' ? code : null
}

/** Why a request to a node failed, in words for the operator. */
export function reasonOf(error: unknown): string {
  if (error instanceof errors.HTTPParserError) return 'it does not speak HTTP'
  const code = codeOf(error)
  return code === null ? messageOf(error) : (words[code] ?? code)
}
