import { createServer, type Server } from 'node:http'
import Router from '@koa/router'
import Koa from 'koa'
import { endpoints } from '../api/endpoints.ts'
import { ProxyError } from '../shared/errors.ts'
import { type Address, bind } from '../shared/net/address.ts'
import { httpOptions, requestLimits } from '../shared/net/http-limits.ts'
import { access, localHost } from './access.ts'
import { addEndpoints, type Handlers } from './add-endpoints.ts'
import type { AdminContext } from './admin-context.ts'
import { failures } from './failures.ts'
import { configHandlers } from './handlers/config.ts'
import { decisionHandlers } from './handlers/decisions.ts'
import { healthHandlers } from './handlers/health.ts'
import { instanceHandlers } from './handlers/instances.ts'
import { jobHandlers } from './handlers/jobs.ts'
import { keyHandlers } from './handlers/keys.ts'
import { modelHandlers } from './handlers/models.ts'
import { nodeHandlers } from './handlers/nodes.ts'
import { openApiHandlers } from './handlers/openapi.ts'
import { queueHandlers } from './handlers/queue.ts'
import { routeTestHandlers } from './handlers/route-test.ts'
import { routeHandlers } from './handlers/routes.ts'
import { statusHandlers } from './handlers/status.ts'
import { jsonBodies } from './json-bodies.ts'

const defaultLimits = {
  ...requestLimits,
  /** Most of the service's 65,536 files are for requests; operators and monitoring need few. */
  maxConnections: 1000,
}
/** Milliseconds without traffic after which a connection is closed. */
const silentMs = 120_000

/** The compiler demands a handler for every endpoint; other paths cannot be routed. */
function handlersOf(admin: AdminContext): Handlers<typeof endpoints> {
  return {
    ...healthHandlers(admin),
    ...openApiHandlers(),
    ...statusHandlers(admin),
    ...instanceHandlers(admin),
    ...nodeHandlers(admin),
    ...modelHandlers(admin),
    ...jobHandlers(admin),
    ...routeTestHandlers(admin),
    ...routeHandlers(admin),
    ...configHandlers(admin),
    ...keyHandlers(admin),
    ...queueHandlers(admin),
    ...decisionHandlers(admin),
  }
}

/** The admin listener: health and metrics for machines, the admin API for operators. */
export class AdminServer {
  readonly #server: Server
  readonly #listen: Address

  /** @param limits shorter ones for tests. */
  constructor(admin: AdminContext, limits: Partial<typeof defaultLimits> = {}) {
    this.#listen = admin.listen
    const open = new Router()
    const guarded = new Router()
    addEndpoints(endpoints, handlersOf(admin), ({ access }) => (access === 'open' ? open : guarded))

    const app = new Koa()
    app.silent = true // `failures` logs errors; koa would print stacks
    app.use(failures(admin))
    app.use(localHost(admin))
    app.use(open.routes())
    app.use(access(admin))
    app.use(jsonBodies())
    app.use(guarded.routes())
    app.use((context) => {
      throw new ProxyError('unknown_path', { path: context.path.slice(0, 200) })
    })
    const { maxRequestsPerSocket, maxConnections, ...timeouts } = { ...defaultLimits, ...limits }
    this.#server = createServer({ ...httpOptions, ...timeouts }, app.callback())
    this.#server.maxRequestsPerSocket = maxRequestsPerSocket
    this.#server.maxConnections = maxConnections
    this.#server.timeout = silentMs
    this.#server.on('connect', (_request, socket) => socket.destroy())
    this.#server.on('drop', () => admin.metrics.connectionsRefused.inc({ limit: 'admin' }))
    // Without this listener a failed accept(2) would end the process.
    this.#server.on('error', (error) => admin.ownFaults.note(error))
  }

  /** Binds; see `bind`. */
  listen(): Promise<Address> {
    return bind(this.#server, this.#listen)
  }

  /** Refuses new connections and closes open ones: answers of this listener are short. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#server.closeAllConnections()
    await closed
  }
}
