import { isOver, type Jobs, type JobView } from '../fleet/job.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import { orAborted } from './aborted.ts'
import { sendJson } from './dialect.ts'
import type { Exchange } from './exchange.ts'
import { failureOf, type JobFailure, nodeReports } from './job-report.ts'
import { MergedProgress, type ProgressLine } from './merged-progress.ts'

/** Proxies on the way cut connections that are silent for a minute, some sooner. */
const silenceMs = 5000

/** A job whose caller waits for it, by its id. */
interface Waiting {
  readonly exchange: Exchange
  readonly jobs: Jobs
  readonly id: string
}

/**
 * Follows a job to its end as one Ollama would report it: NDJSON with a last line that says `success` only when every
 * node succeeded. The job goes on when the caller leaves.
 *
 * @throws the reason of the exchange's signal.
 */
export async function streamJob(waiting: Waiting, clock: Clock): Promise<void> {
  const { exchange, id } = waiting
  const { response, trace } = exchange
  let merged: MergedProgress | null = null
  let last: ProgressLine = { status: 'waiting' }
  let reports: ReturnType<typeof nodeReports> = {}
  let cancelBeat = () => {}

  const write = (line: object) => {
    if (!response.headersSent) {
      trace.contentType = 'application/x-ndjson'
      trace.firstByteMs = clock.now() - exchange.startedAt
      response.writeHead(200, { 'content-type': trace.contentType, ...headersOf(waiting) })
    }
    response.write(`${JSON.stringify({ ...line, llamero: { job: id, nodes: reports } })}\n`)
    cancelBeat()
    cancelBeat = clock.after(silenceMs, () => write(last))
  }
  cancelBeat = clock.after(silenceMs, () => write(last))
  try {
    const job = await end(waiting, (now) => {
      merged ??= new MergedProgress(now.spec.action)
      reports = nodeReports(now)
      // What a caller does not read is not piled up: the next line is as new.
      if (response.writableNeedDrain && !isEnded(now)) return
      for (const line of merged.next(now)) {
        last = line
        write(line)
      }
    })
    const failure = failureOf(job)
    if (failure && !response.headersSent) return sendFailure(waiting, failure, reports)
    write(failure ? { error: failure.reason } : { status: 'success' })
    settle(exchange, failure)
    response.end()
  } finally {
    cancelBeat()
  }
}

/**
 * Answers when the job is over: with the last object, or nothing at all where Ollama sends none.
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

function sendFailure(waiting: Waiting, failure: JobFailure, nodes: ReturnType<typeof nodeReports>): void {
  settle(waiting.exchange, failure)
  const body = { error: failure.reason, llamero: { job: waiting.id, nodes } }
  sendJson(waiting.exchange.response, failure.status, JSON.stringify(body), headersOf(waiting))
}

function settle({ trace }: Exchange, failure: JobFailure | null): void {
  trace.outcome = failure ? 'upstream_error' : 'ok'
  if (failure) trace.error = new ProxyError('node_failed', { reason: failure.reason })
}

function headersOf({ exchange, id }: Waiting): Record<string, string> {
  return { 'x-request-id': exchange.publicId, 'x-llamero-job': id }
}
