import type { JobSpec, Jobs } from '../fleet/job.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import type { Caller } from './authenticate.ts'
import type { BlobHolders } from './blob-holders.ts'
import type { Exchange } from './exchange.ts'
import { awaitJob, streamJob } from './job-answer.ts'
import type { JobAsk } from './job-ask.ts'
import { type ManagedAction, readJobBody } from './job-body.ts'
import { permit } from './job-policy.ts'
import { place } from './placement.ts'

interface ManagementOptions {
  readonly jobs: Jobs
  readonly blobs: BlobHolders
  readonly clock: Clock
}

/** Changes to models: understood, permitted and placed here, carried out by the leader as a job that the answer follows. */
export class Management {
  readonly #options: ManagementOptions

  constructor(options: ManagementOptions) {
    this.#options = options
  }

  /**
   * Resolves when the caller has been told how the job ended.
   *
   * @throws ProxyError those of `readJobBody` and `submit`; the reason of the exchange's signal.
   */
  async answer(
    exchange: Exchange,
    action: ManagedAction,
    caller: Caller,
    body: Buffer,
    snapshot: Snapshot,
  ): Promise<void> {
    const { ask, streams } = readJobBody(action, body)
    exchange.trace.model = (ask.source ?? ask.made)?.canonical ?? ''
    const id = await this.submit(ask, caller, snapshot, exchange.signal)
    exchange.trace.job = id
    const waiting = { exchange, jobs: this.#options.jobs, id }
    await (streams ? streamJob(waiting, this.#options.clock) : awaitJob(waiting))
  }

  /**
   * Accepts a job, and resolves to its id.
   *
   * @throws ProxyError those of `permit`, `place`, `BlobHolders.find` and `Jobs.submit`; the signal's reason.
   */
  async submit(ask: JobAsk, caller: Caller, snapshot: Snapshot, signal: AbortSignal): Promise<string> {
    permit(ask, caller, snapshot.config)
    const { nodes, spares } = await this.#place(ask, snapshot, signal)
    return await this.#options.jobs.submit({
      action: ask.action,
      model: modelOf(ask),
      body: ask.body,
      nodes,
      spares,
      tenant: caller.tenant,
    })
  }

  async #place(ask: JobAsk, snapshot: Snapshot, signal: AbortSignal) {
    if (ask.digests.length === 0) return place(ask, snapshot)
    const { nodes } = place({ ...ask, wish: { ...ask.wish, copies: 'all' } }, snapshot)
    return place(ask, snapshot, await this.#options.blobs.find(nodes, ask.digests, snapshot, signal))
  }
}

/** A job is kept under the model it makes; a copy under its source. */
function modelOf({ action, source, made }: JobAsk): JobSpec['model'] {
  return (action === 'copy' ? source : (made ?? source))?.canonical ?? ''
}
