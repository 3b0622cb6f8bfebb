import type { JobAnswer, jobEndpoints } from '../../api/jobs.ts'
import type { JobAction, JobView } from '../../fleet/job.ts'
import type { NodeChoice } from '../../fleet/node-choice.ts'
import type { Caller } from '../../gateway/http/authenticate.ts'
import { nodeReports } from '../../gateway/jobs/job-report.ts'
import { type JobFields, readJobRequest } from '../../gateway/jobs/job-request.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'

/** A caller with access to the admin API may do everything. */
const operator: Caller = { tenant: 'operator', models: ['*'], mayManage: true }

/** A job that needs only the name of a model. */
type Order = NodeChoice & { readonly model: string }

type JobContext = Pick<AdminContext, 'jobs' | 'management' | 'snapshot' | 'log'>

/** Model jobs: lists, cancels and begins them. The gateway's code places them. */
export function jobHandlers(admin: JobContext): Handlers<typeof jobEndpoints> {
  const { jobs, management, snapshot, log } = admin

  const begin = async (action: JobAction, fields: JobFields, { copies, nodes, labels }: NodeChoice) => {
    // Submitting waits only for the store, which has time limits of its own.
    const { signal } = new AbortController()
    try {
      const ask = readJobRequest(action, fields, { copies, nodes, labels })
      return { job: await management.submit(ask, operator, snapshot.get(), signal) }
    } catch (error) {
      throw asInvalid(error)
    }
  }
  const plain =
    (action: JobAction) =>
    ({ body: { model, ...wish } }: { readonly body: Order }) =>
      begin(action, { model }, wish)

  return {
    listJobs: () => ({ jobs: jobs.list().map(row) }),

    readJob: ({ params: { id } }) => {
      const job = jobs.get(id)
      if (!job) throw new ProxyError('not_found', { kind: 'job', name: id.slice(0, 80) })
      return row(job)
    },

    cancelJob: async ({ params: { id } }) => {
      await jobs.cancel(id)
      log.info('job cancellation requested', { job: id })
      return { job: id }
    },

    pullModel: plain('pull'),
    deleteModel: plain('delete'),
    unloadModel: plain('unload'),
    copyModel: ({ body: { model, destination, ...wish } }) =>
      begin('copy', { source: model, destination }, wish),
    loadModel: ({ body: { model, num_ctx, ...wish } }) =>
      begin('load', { model, ...(num_ctx !== undefined && { options: { num_ctx } }) }, wish),
  }
}

/** A caller of Ollama's API gets 400 for wrong fields, as from Ollama; a caller of this API 422. */
function asInvalid(error: unknown): unknown {
  if (!(error instanceof ProxyError) || error.code !== 'bad_request') return error
  return new ProxyError('invalid', { reason: error.message }, { cause: error })
}

function row(job: JobView): JobAnswer {
  const { id, spec, status } = job
  const { action, model, created, tenant } = spec
  const state = status?.state ?? 'waiting'
  return { id, action, model, state, created, ended: status?.ended ?? null, tenant, nodes: nodeReports(job) }
}
