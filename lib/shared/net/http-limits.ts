import type { ServerOptions } from 'node:http'

/** How both listeners read HTTP, and how long they wait for a request: a slow caller must not cost much. */
export const httpOptions: ServerOptions = {
  maxHeaderSize: 16 * 1024,
  noDelay: true,
  keepAlive: true,
  requireHostHeader: true,
  insecureHTTPParser: false,
  joinDuplicateHeaders: false,
}

/** Milliseconds, and requests of one connection. These limits end with the request: a streamed answer has none. */
export const requestLimits = {
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  /** Callers are told a second less than the listener waits, so that none reuses a connection just as it closes. */
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 2_000,
  maxRequestsPerSocket: 1000,
}
