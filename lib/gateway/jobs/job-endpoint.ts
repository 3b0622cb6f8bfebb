import { canonicalName } from '../../fleet/documents/names.ts'
import { isOver, type JobSpec, type Jobs, type JobView } from '../../fleet/job.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import type { RequestBodies } from '../body/request-bodies.ts'
import type { Caller } from '../http/authenticate.ts'
import type { Exchange } from '../http/exchange.ts'
import type { ManagedAction } from '../http/find-endpoint.ts'
import type { BlobIndex } from './blob-index.ts'
import { maxJobBytes, readJobBody } from './job-body.ts'
import { permit } from './job-permissions.ts'
import { placeJob } from './job-placement.ts'
import type { RequestedJob } from './job-request.ts'
import { awaitJob, streamJob } from './job-response.ts'

interface JobEndpointOptions {
  readonly jobs: Jobs
  readonly blobs: BlobIndex
  readonly clock: Clock
}

/**
 * Changes to models. They are read, permitted and placed here; the leader carries them out as a job, and the response
 * follows the job.
 */
export class JobEndpoint {
  readonly #options: JobEndpointOptions

  constructor(options: JobEndpointOptions) {
    this.#options = options
  }

  /**
   * Resolves when the caller has the result of the job.
   *
   * @throws ProxyError those of `readJobBody` and `submit`; the reason of the exchange's signal.
   */
  answer(
    exchange: Exchange,
    action: ManagedAction,
    caller: Caller,
    bodies: RequestBodies,
    snapshot: Snapshot,
  ): Promise<void> {
    const answer = (body: Buffer) => this.#answer(exchange, action, caller, body, snapshot)
    return bodies.withWhole(exchange, caller, snapshot.config, answer, maxJobBytes)
  }

  async #answer(
    exchange: Exchange,
    action: ManagedAction,
    caller: Caller,
    body: Buffer,
    snapshot: Snapshot,
  ): Promise<void> {
    const { job, streams } = await readJobBody(action, body, exchange.signal)
    exchange.trace.model = (job.source ?? job.made)?.canonical ?? ''
    const id = await this.submit(job, caller, snapshot, exchange.signal)
    exchange.trace.job = id
    const waiting = { exchange, jobs: this.#options.jobs, id }
    await (streams ? streamJob(waiting, this.#options.clock) : awaitJob(waiting))
  }

  /**
   * Creates a job and resolves to its id; for a pull that is already in progress, to the id of that job.
   *
   * @throws ProxyError those of `permit`, `placeJob`, `BlobIndex.find` and `Jobs.submit`; the signal's reason.
   */
  async submit(job: RequestedJob, caller: Caller, snapshot: Snapshot, signal: AbortSignal): Promise<string> {
    permit(job, caller, snapshot.config)
    const { nodes, spares } = await this.#place(job, snapshot, signal)
    const { jobs } = this.#options
    const wanted = {
      action: job.action,
      model: modelOf(job),
      body: job.body,
      nodes,
      spares,
      tenant: caller.tenant,
    }
    return samePull(wanted, jobs.list())?.id ?? (await jobs.submit(wanted))
  }

  async #place(job: RequestedJob, snapshot: Snapshot, signal: AbortSignal) {
    if (job.digests.length === 0) return placeJob(job, snapshot)
    const { nodes } = placeJob({ ...job, wish: { ...job.wish, copies: 'all' } }, snapshot)
    return placeJob(job, snapshot, await this.#options.blobs.find(nodes, job.digests, snapshot, signal))
  }
}

type Wanted = Omit<JobSpec, 'created' | 'cancelled'>

/**
 * The pull in progress that includes the wanted one, if any, as in Ollama. Only the newest job of the model counts:
 * after a waiting delete, the model must be pulled again.
 *
 * @param jobs the newest first.
 */
function samePull(wanted: Wanted, jobs: readonly JobView[]): JobView | null {
  if (wanted.action !== 'pull') return null
  const newest = jobs.find(
    ({ spec, status }) => !isOver(status?.state ?? 'waiting') && concerns(spec, wanted.model),
  )
  if (newest?.spec.action !== 'pull' || newest.spec.cancelled) return null
  const isSame = newest.spec.model === wanted.model && howOf(newest.spec) === howOf(wanted)
  return isSame && wanted.nodes.every((node) => newest.spec.nodes.includes(node)) ? newest : null
}

function concerns({ model, body }: JobSpec, name: string): boolean {
  const others = [body['from'], body['destination']]
  return model === name || others.some((other) => typeof other === 'string' && canonicalName(other) === name)
}

/** The fields of a job without its model, which has several spellings. */
function howOf({ body }: Wanted): string {
  return JSON.stringify(
    Object.entries(body)
      .filter(([field]) => field !== 'model')
      .sort(),
  )
}

/** A job is kept under the model that it creates; a copy under its source. */
function modelOf({ action, source, made }: RequestedJob): JobSpec['model'] {
  return (action === 'copy' ? source : (made ?? source))?.canonical ?? ''
}
