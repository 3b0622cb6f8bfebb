import type Router from '@koa/router'
import { z } from 'zod'
import type { JobAction, JobView } from '../fleet/job.ts'
import type { Caller } from '../gateway/authenticate.ts'
import { type JobFields, jobAsk, readFields, wishSchema } from '../gateway/job-ask.ts'
import { nodeReports } from '../gateway/job-report.ts'
import { ProxyError } from '../shared/errors.ts'
import { type AdminContext, apiVersion } from './context.ts'
import { bodyOf } from './documents.ts'

/** Whoever is let in here may do everything. */
const operator: Caller = { tenant: 'operator', models: ['*'], mayManage: true }

const one = z.strictObject({ model: z.string() })
const orders = {
  pull: one,
  delete: one,
  unload: one,
  copy: one.extend({ destination: z.string() }),
  load: one.extend({ num_ctx: z.int().min(1).optional() }),
} satisfies Partial<Record<JobAction, z.ZodObject>>
type Ordered = keyof typeof orders

type JobContext = Pick<AdminContext, 'jobs' | 'management' | 'snapshot' | 'log'>

/** Model jobs: those that are kept, and new ones, by the code that places those of the gateway's callers. */
export function jobRoutes(router: Router, admin: JobContext): void {
  const { jobs, management, snapshot, log } = admin

  router.get('/admin/v1/jobs', (context) => {
    context.body = { apiVersion, jobs: jobs.list().map(row) }
  })

  router.get('/admin/v1/jobs/:id', (context) => {
    const id = context.params['id'] ?? ''
    const job = jobs.get(id)
    if (!job) throw new ProxyError('not_found', { kind: 'job', name: id.slice(0, 80) })
    context.body = { apiVersion, ...row(job) }
  })

  router.delete('/admin/v1/jobs/:id', async (context) => {
    const id = context.params['id'] ?? ''
    await jobs.cancel(id)
    log.info('job to be cancelled', { job: id })
    context.status = 202
    context.body = { apiVersion, job: id }
  })

  for (const action of Object.keys(orders) as Ordered[]) {
    router.post(`/admin/v1/models/${action}`, async (context) => {
      const { copies, nodes, labels, ...order } = bodyOf(context)
      const wish = readFields({ copies, nodes, labels }, wishSchema)
      const ask = jobAsk(action, fieldsOf(action, order), wish)
      // Nothing to wait for but the store, and that has its own limits.
      const { signal } = new AbortController()
      context.body = { apiVersion, job: await management.submit(ask, operator, snapshot.get(), signal) }
      context.status = 202
    })
  }
}

/** What Ollama's own API would be sent. */
function fieldsOf(action: Ordered, order: unknown): JobFields {
  switch (action) {
    case 'copy': {
      const { model, destination } = readFields(order, orders.copy)
      return { source: model, destination }
    }
    case 'load': {
      const { model, num_ctx } = readFields(order, orders.load)
      return { model, ...(num_ctx !== undefined && { options: { num_ctx } }) }
    }
    default:
      return readFields(order, orders[action])
  }
}

function row(job: JobView) {
  const { id, spec, status } = job
  const { action, model, created, tenant } = spec
  const state = status?.state ?? 'waiting'
  return { id, action, model, state, created, ended: status?.ended ?? null, tenant, nodes: nodeReports(job) }
}
