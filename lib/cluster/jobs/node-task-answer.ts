import type { JobAction, LayerProgress, NodeProgress } from '../../fleet/job.ts'

/** The result of one request of a job. */
export type JobEnding =
  | { readonly kind: 'done' }
  /**
   * The node refused for good: a retry would bring the same. `code` is the HTTP status, null when the refusal is not the
   * node's own.
   */
  | {
      readonly kind: 'refused'
      readonly error: string
      readonly code: number | null
      readonly isDiskFull: boolean
    }
  /** The node tried and failed. */
  | { readonly kind: 'failed'; readonly error: string; readonly code: number | null }
  /** The node could not be reached, or the response broke off. A retry resumes what the node had begun. */
  | { readonly kind: 'broken'; readonly error: string }

/** The fields of one line of a node's response that matter to a job. */
export interface JobLine {
  readonly status: string | null
  readonly digest: string | null
  readonly total: number
  readonly completed: number
  readonly error: string | null
}

/** Limits of what is kept of one node: layers, and characters per text. */
const maxLayers = 64
const maxText = 300

/** Reads a line as hostile input; null when it is not a JSON object. */
export function readLine(text: string): JobLine | null {
  const fields = objectIn(text)
  return (
    fields && {
      status: wordsIn(fields['status']),
      digest: wordsIn(fields['digest']),
      total: countIn(fields['total']),
      completed: countIn(fields['completed']),
      error: 'error' in fields ? (errorIn(fields['error']) ?? 'an error without a message') : null,
    }
  )
}

/** The progress of the node after a line. `completed` may go down after a part failed. */
export function progressAfter(progress: NodeProgress, line: JobLine): NodeProgress {
  const { digest, total, completed } = line
  const isLayer = digest !== null && (digest in progress.layers || countLayers(progress) < maxLayers)
  const layer: LayerProgress = { total, completed }
  return {
    ...progress,
    status: line.status ?? progress.status,
    layers: isLayer ? { ...progress.layers, [digest]: layer } : progress.layers,
    error: null,
  }
}

/** The result of a response with an HTTP status other than 200. */
export function endingOfStatus(code: number, body: string): JobEnding {
  const said = errorIn(objectIn(body)?.['error'])
  if (said === null) return endingOfPage(code)
  if (isDiskFull(said)) return { kind: 'refused', error: said, code, isDiskFull: true }
  if (passing.has(code)) return { kind: 'broken', error: said }
  if (code < 500) return { kind: 'refused', error: said, code, isDiskFull: false }
  return { kind: 'failed', error: said, code }
}

/**
 * The result of a response that is not from Ollama. Its status comes from a proxy, and is not passed on to the caller.
 */
export function endingOfPage(status: number): JobEnding {
  const error = `a proxy in front of it, or another server, answered ${status}: check the node's URL, its headers and that proxy`
  if (passing.has(status)) return { kind: 'broken', error }
  const code = status === 413 ? status : 502
  return status < 500 ? { kind: 'refused', error, code, isDiskFull: false } : { kind: 'failed', error, code }
}

/** Ollama's status for every failure of a request that is not streamed (docs/ollama.md#model-management). */
const lineCode = 500

/** The result of a line with an error. */
export function endingOfLine(error: string): JobEnding {
  if (isDiskFull(error)) return { kind: 'refused', error, code: lineCode, isDiskFull: true }
  return { kind: 'failed', error, code: lineCode }
}

/** Whether a retry may succeed after a node failed: Ollama gives the reason in words only. */
export function mayRecover(action: JobAction, error: string): boolean {
  return (action === 'pull' || action === 'push') && !definite.test(error)
}

/** Statuses of timeouts, full queues, and of proxies in front of a node that is down. */
const passing: ReadonlySet<number> = new Set([408, 425, 429, 499, 502, 503, 504])
const definite =
  /file does not exist|no such file|not found|invalid model|unauthori[sz]ed|not authori[sz]ed|access denied|permission denied|newer version/i

function isDiskFull(error: string): boolean {
  return /no space left on device|not enough space on the disk|disk quota exceeded/i.test(error)
}

/** The message of an error. Errors of a model's runner are JSON inside JSON (docs/ollama.md#answers). */
function errorIn(value: unknown): string | null {
  if (typeof value !== 'string') return wordsIn((value as { message?: unknown } | null | undefined)?.message)
  const inner = objectIn(value)?.['error'] as { message?: unknown } | string | undefined
  return wordsIn(typeof inner === 'object' ? inner?.message : inner) ?? wordsIn(value)
}

function objectIn(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? (value as Readonly<Record<string, unknown>>) : null
  } catch {
    return null // not JSON
  }
}

function wordsIn(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value.slice(0, maxText) : null
}

function countIn(value: unknown): number {
  return typeof value === 'number' && value >= 0 && Number.isSafeInteger(value) ? value : 0
}

function countLayers({ layers }: NodeProgress): number {
  return Object.keys(layers).length
}
