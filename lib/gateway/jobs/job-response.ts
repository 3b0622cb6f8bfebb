import { isOver, type Jobs, type JobView } from '../../fleet/job.ts'
import { orAborted } from '../../shared/abort.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import { sendJson } from '../http/error-response.ts'
import type { Exchange } from '../http/exchange.ts'
import { JobProgress, type ProgressLine } from './job-progress.ts'
import { failureOf, type JobFailure, nodeReports } from './job-report.ts'

/** Milliseconds until a line is repeated: proxies close connections that are silent for a minute, some sooner. */
const silenceMs = 5000

type NodeReports = ReturnType<typeof nodeReports>

interface JobError {
  readonly error: string
}

/** A caller that waits for a job. */
interface Waiting {
  readonly exchange: Exchange
  readonly jobs: Jobs
  readonly id: string
}

/**
 * Streams the progress of a job as one Ollama would: NDJSON, and `success` as the last line only when every node
 * succeeded. The job goes on when the caller leaves.
 *
 * @throws the reason of the exchange's signal.
 */
export async function streamJob(waiting: Waiting, clock: Clock): Promise<void> {
  const { exchange } = waiting
  const stream = new ProgressStream(waiting, clock)
  let merged: JobProgress | null = null
  stream.start()
  try {
    const job = await end(waiting, (now) => {
      merged ??= new JobProgress(now.spec.action)
      stream.reports = nodeReports(now)
      // For a slow caller no lines are queued: the next one is as new.
      if (stream.isFull && !isEnded(now)) return
      for (const line of merged.next(now)) stream.write(line)
    })
    const failure = failureOf(job)
    if (failure && !exchange.response.headersSent) return sendFailure(waiting, failure, stream.reports)
    stream.write(failure ? { error: failure.reason } : { status: 'success' })
    settle(exchange, failure)
    exchange.response.end()
  } finally {
    stream.stop()
  }
}

/** Writes lines to a caller, and repeats the last one after a silence. */
class ProgressStream {
  readonly #waiting: Waiting
  readonly #clock: Clock
  #last: ProgressLine | JobError = { status: 'waiting' }
  #cancelBeat = () => {}
  /** The node reports that each line carries. */
  reports: NodeReports = {}

  constructor(waiting: Waiting, clock: Clock) {
    this.#waiting = waiting
    this.#clock = clock
  }

  start(): void {
    this.#cancelBeat()
    this.#cancelBeat = this.#clock.after(silenceMs, () => {
      if (this.isFull) this.start()
      else this.write(this.#last)
    })
  }

  stop(): void {
    this.#cancelBeat()
  }

  get isFull(): boolean {
    return this.#waiting.exchange.response.writableNeedDrain
  }

  write(line: ProgressLine | JobError): void {
    const { exchange, id } = this.#waiting
    const { response, trace } = exchange
    if (!response.headersSent) {
      trace.contentType = 'application/x-ndjson'
      trace.firstByteMs = this.#clock.now() - exchange.startedAt
      response.writeHead(200, { 'content-type': trace.contentType, ...headersOf(this.#waiting) })
    }
    response.write(`${JSON.stringify({ ...line, llamero: { job: id, nodes: this.reports } })}\n`)
    this.#last = line
    this.start()
  }
}

/**
 * Responds when the job is over: with the last object, or an empty body where Ollama sends none.
 *
 * @throws the reason of the exchange's signal.
 */
export async function awaitJob(waiting: Waiting): Promise<void> {
  const { exchange, id } = waiting
  const job = await end(waiting, () => {})
  const reports = nodeReports(job)
  const failure = failureOf(job)
  if (failure) return sendFailure(waiting, failure, reports)
  settle(exchange, null)
  if (job.spec.action === 'copy' || job.spec.action === 'delete') {
    exchange.response.writeHead(200, { 'content-length': 0, ...headersOf(waiting) })
    exchange.response.end()
    return
  }
  const body = { status: 'success', llamero: { job: id, nodes: reports } }
  sendJson(exchange.response, 200, JSON.stringify(body), headersOf(waiting))
}

async function end({ exchange, jobs, id }: Waiting, changed: (job: JobView) => void): Promise<JobView> {
  const ended = Promise.withResolvers<JobView>()
  const unfollow = jobs.follow(id, (job) => {
    changed(job)
    if (isEnded(job)) ended.resolve(job)
  })
  try {
    return await orAborted(ended.promise, exchange.signal)
  } finally {
    unfollow()
  }
}

function isEnded({ status }: JobView): boolean {
  return status !== null && isOver(status.state)
}

function sendFailure(waiting: Waiting, failure: JobFailure, nodes: NodeReports): void {
  settle(waiting.exchange, failure)
  const body = { error: failure.reason, llamero: { job: waiting.id, nodes } }
  sendJson(waiting.exchange.response, failure.status, JSON.stringify(body), headersOf(waiting))
}

function settle({ trace }: Exchange, failure: JobFailure | null): void {
  trace.outcome = 'ok'
  if (!failure) return
  const { reason, isCancelled } = failure
  trace.outcome = isCancelled ? 'rejected' : 'upstream_error'
  trace.error = new ProxyError(isCancelled ? 'conflict' : 'node_failed', { reason })
}

function headersOf({ exchange, id }: Waiting): Record<string, string> {
  return { 'x-request-id': exchange.publicId, 'x-llamero-job': id }
}
