import type { ServerOptions } from 'node:http'

/** How both listeners read HTTP, and for how long they wait for a request: a caller that says little must not cost much. */
export const httpOptions: ServerOptions = {
  maxHeaderSize: 16 * 1024,
  noDelay: true,
  keepAlive: true,
  requireHostHeader: true,
  insecureHTTPParser: false,
  joinDuplicateHeaders: false,
}

/** Milliseconds, and requests of one connection. A streamed answer is not a request: it may take as long as it likes. */
export const requestLimits = {
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  /** Callers are told a second less than we keep, so that none reuses a connection just as it closes. */
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 2_000,
  maxRequestsPerSocket: 1000,
}
