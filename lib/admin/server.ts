import { createServer, type Server } from 'node:http'
import Router from '@koa/router'
import Koa from 'koa'
import { type Address, bind } from '../shared/address.ts'
import { ProxyError } from '../shared/errors.ts'
import { httpOptions, requestLimits } from '../shared/http-limits.ts'
import { access, localHost } from './access.ts'
import { jsonBodies } from './body.ts'
import { configRoutes } from './config.ts'
import type { AdminContext } from './context.ts'
import { decisionRoutes } from './decisions.ts'
import { failures } from './failure.ts'
import { healthRoutes } from './health.ts'
import { instanceRoutes } from './instances.ts'
import { jobRoutes } from './jobs.ts'
import { keyRoutes } from './keys.ts'
import { modelRoutes } from './models.ts'
import { nodeRoutes } from './nodes.ts'
import { queueRoutes } from './queue.ts'
import { routeTest } from './route-test.ts'
import { routeRoutes } from './routes.ts'
import { statusRoutes } from './status.ts'

const defaultLimits = {
  ...requestLimits,
  /** Of the service's 65,536 files most are for requests: operators and monitoring need few. */
  maxConnections: 1000,
}
/** Milliseconds after which a caller that neither sends nor reads is cut off. */
const silentMs = 120_000

/** The admin listener: health and metrics for machines, the admin API for operators. */
export class AdminServer {
  readonly #server: Server
  readonly #listen: Address

  /** @param limits where the listener's own are too patient for a test. */
  constructor(admin: AdminContext, limits: Partial<typeof defaultLimits> = {}) {
    this.#listen = admin.listen
    const open = new Router()
    healthRoutes(open, admin)
    const guarded = new Router()
    for (const add of [
      statusRoutes,
      instanceRoutes,
      nodeRoutes,
      modelRoutes,
      jobRoutes,
      routeTest,
      routeRoutes,
      configRoutes,
      keyRoutes,
      queueRoutes,
      decisionRoutes,
    ])
      add(guarded, admin)

    const app = new Koa()
    app.silent = true // `failures` logs; koa's own printing would include stacks
    app.use(failures(admin.log))
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
    // Without a listener for it, an accept(2) that fails would end the process.
    this.#server.on('error', (error) => admin.ownFaults.note(error))
  }

  /** Binds; see `bind`. */
  listen(): Promise<Address> {
    return bind(this.#server, this.#listen)
  }

  /** Takes no new connections and cuts those open: answers here are short. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#server.closeAllConnections()
    await closed
  }
}
