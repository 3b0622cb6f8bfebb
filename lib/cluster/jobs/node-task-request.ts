import { canonicalName } from '../../fleet/documents/names.ts'
import type { JobAction, JobSpec } from '../../fleet/job.ts'

/** One request of a job to a node. */
export interface NodeTaskRequest {
  readonly method: 'POST' | 'DELETE'
  readonly path: string
  readonly body: Readonly<Record<string, unknown>>
  /** Whether the response is a progress stream that ends with `success` (docs/ollama.md#model-management). */
  readonly isStream: boolean
}

/**
 * The requests of a job to a node: the second is sent when the node answers 400 to the first.
 *
 * @param keepAlive the keep_alive fields of a load; empty for a model that is in memory already.
 */
export function ordersOf(
  { action, body }: JobSpec,
  keepAlive: object,
): readonly [NodeTaskRequest, NodeTaskRequest?] {
  if (action === 'load' || action === 'unload') {
    const fields = action === 'unload' ? { ...body, keep_alive: 0 } : { ...keepAlive, ...body }
    // Embedding models refuse /api/generate.
    return [
      whole('/api/generate', { ...fields, prompt: '', stream: false }),
      whole('/api/embed', { ...fields, input: '' }),
    ]
  }
  if (action === 'copy') return [whole('/api/copy', body)]
  if (action === 'delete') return [{ ...whole('/api/delete', body), method: 'DELETE' }]
  return [{ method: 'POST', path: `/api/${action}`, body: { ...body, stream: true }, isStream: true }]
}

function whole(path: string, body: NodeTaskRequest['body']): NodeTaskRequest {
  return { method: 'POST', path, body, isStream: false }
}

/** The models that a job reads or changes. Jobs that share a model take turns on a node. */
export function modelsOf({ model, body }: JobSpec): readonly string[] {
  const others = [body['from'], body['destination']].flatMap((name) =>
    typeof name === 'string' ? (canonicalName(name) ?? []) : [],
  )
  return [...new Set([model, ...others])]
}

/** Milliseconds without a line after which a request is cut off. */
export function silenceMs(action: JobAction, status: string): number {
  const isMoving = status === '' ? !slowToBegin.has(action) : /^(pulling|pushing) /.test(status)
  return isMoving ? movingMs : workingMs
}

const slowToBegin: ReadonlySet<JobAction> = new Set(['create', 'load'])
/** For a transfer: Ollama reports progress every 60 ms, and retries a part that stalls after 30 s. */
const movingMs = 60_000
/** For other work: Ollama verifies hundreds of gigabytes, and converts or loads models, without sending a line. */
const workingMs = 600_000
