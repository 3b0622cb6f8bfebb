import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import { otherModel } from '../../shared/metric-registry.ts'
import type { Metrics } from '../../shared/metrics.ts'
import { ClientGone, type Exchange } from './exchange.ts'

interface Observers {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
}

/** Writes the one log line and the metrics of a finished request. No other place counts requests. */
export function logAccess(exchange: Exchange, snapshot: Snapshot, { clock, log, metrics }: Observers): void {
  const { trace, request, response, signal } = exchange
  const durationMs = clock.now() - exchange.startedAt
  const left = trace.error instanceof ClientGone || signal.reason instanceof ClientGone
  const status = left ? 499 : response.statusCode
  // The caller wrote the model name: only names of the inventory may become label values.
  const model = snapshot.models.has(trace.model) ? trace.model : trace.model === '' ? '' : otherModel
  const { api, outcome, firstByteMs, tokens } = trace
  const labels = { api, model, code: status, outcome, cold: trace.reason === 'cold-load' }
  metrics.later(() => {
    const series = metrics.request(labels)
    series.total.inc()
    series.seconds.observe(durationMs / 1000)
    if (firstByteMs !== null) series.firstToken.observe(firstByteMs / 1000)
    if (tokens.input > 0) series.input.inc(tokens.input)
    if (tokens.output > 0) series.output.inc(tokens.output)
  })
  const level = trace.error === undefined || outcome === 'client_cancelled' ? 'info' : levelOf(trace.error)
  log[level]('request', {
    id: exchange.id,
    client_id: exchange.publicId === exchange.id ? undefined : exchange.publicId,
    method: request.method,
    path: exchange.path.slice(0, 200),
    status,
    outcome,
    model,
    tenant: trace.tenant,
    class: trace.class,
    node: trace.node,
    reason: trace.reason,
    job: trace.job === '' ? undefined : trace.job,
    attempts: trace.attempts,
    failed: trace.failed.length === 0 ? undefined : trace.failed,
    queued_ms: Math.round(trace.queuedMs),
    first_byte_ms: firstByteMs === null ? null : Math.round(firstByteMs),
    tokens_in: tokens.input,
    tokens_out: tokens.output,
    duration_ms: Math.round(durationMs),
    client: request.socket.remoteAddress,
    error: trace.error,
  })
}

/** The caller's own mistakes are `info`. An error outside the catalogue is a bug of llamero. */
function levelOf(error: unknown): 'info' | 'warn' | 'error' {
  if (!(error instanceof ProxyError)) return 'error'
  return error.status < 500 ? 'info' : 'warn'
}
