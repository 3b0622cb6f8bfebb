import type { JobAction, JobSpec } from '../fleet/job.ts'
import { canonicalName } from '../fleet/names.ts'

/** What a node is asked for. */
export interface JobOrder {
  readonly method: 'POST' | 'DELETE'
  readonly path: string
  readonly body: Readonly<Record<string, unknown>>
  /** Whether the answer is a progress stream that ends in `success` (docs/ollama.md#model-management). */
  readonly isStream: boolean
}

/**
 * The requests that do what a job wants: the second is for a node that answers 400 to the first.
 *
 * @param stay what a load says of how long the model stays: nothing where it is in memory already.
 */
export function ordersOf({ action, body }: JobSpec, stay: object): readonly [JobOrder, JobOrder?] {
  if (action === 'load' || action === 'unload') {
    const fields = action === 'unload' ? { ...body, keep_alive: 0 } : { ...stay, ...body }
    // Models that only embed refuse to generate.
    return [
      whole('/api/generate', { ...fields, prompt: '', stream: false }),
      whole('/api/embed', { ...fields, input: '' }),
    ]
  }
  if (action === 'copy') return [whole('/api/copy', body)]
  if (action === 'delete') return [{ ...whole('/api/delete', body), method: 'DELETE' }]
  return [{ method: 'POST', path: `/api/${action}`, body: { ...body, stream: true }, isStream: true }]
}

function whole(path: string, body: JobOrder['body']): JobOrder {
  return { method: 'POST', path, body, isStream: false }
}

/** The models a job reads or changes on its nodes: jobs that share one take turns there. */
export function modelsOf({ model, body }: JobSpec): readonly string[] {
  const others = [body['from'], body['destination']].flatMap((name) =>
    typeof name === 'string' ? (canonicalName(name) ?? []) : [],
  )
  return [...new Set([model, ...others])]
}

/** Milliseconds without a line after which a request is given up. */
export function silenceMs(action: JobAction, status: string): number {
  const isMoving = status === '' ? !slowToBegin.has(action) : /^(pulling|pushing) /.test(status)
  return isMoving ? movingMs : workingMs
}

const slowToBegin: ReadonlySet<JobAction> = new Set(['create', 'load'])
/** While bytes move Ollama says so every 60 ms, and tries a part that stalls again after 30 s by itself. */
const movingMs = 60_000
/** Digests of hundreds of gigabytes are verified, and models converted or loaded, without a word. */
const workingMs = 600_000
