import { createServer } from 'node:http'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { addEndpoints } from '../../lib/admin/add-endpoints.ts'
import { failures } from '../../lib/admin/failures.ts'
import { jobHandlers } from '../../lib/admin/handlers/jobs.ts'
import { modelHandlers } from '../../lib/admin/handlers/models.ts'
import { jobEndpoints } from '../../lib/api/jobs.ts'
import { modelEndpoints } from '../../lib/api/models.ts'
import type { Snapshot } from '../../lib/fleet/snapshot.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { bind } from '../../lib/shared/net/address.ts'
import { startGateway } from './gateway.ts'

/** The admin API of models and their jobs, over the management of a gateway, on a port of its own. */
export async function startModelAdmin(current: Snapshot) {
  const gateway = await startGateway(current)
  const router = new Router()
  const { jobs, management, current: snapshot } = gateway
  addEndpoints(modelEndpoints, modelHandlers({ snapshot }), () => router)
  addEndpoints(jobEndpoints, jobHandlers({ jobs, management, snapshot, log: silentLog }), () => router)
  const app = new Koa()
  app
    .use(failures({ log: silentLog, store: {} }))
    .use(bodyParser())
    .use(router.routes())
  const server = createServer(app.callback())
  const { port } = await bind(server, { host: '127.0.0.1', port: 0 })
  const url = `http://127.0.0.1:${port}`
  const ask = async (method: string, path: string, body?: object) => {
    const response = await fetch(`${url}/admin/v1/${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: JSON.parse(await response.text()) }
  }
  return {
    url,
    jobs,
    ask,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await gateway[Symbol.asyncDispose]()
    },
  }
}
