import type { z } from 'zod'
import { describeFaults } from '../../fleet/documents/contents.ts'
import { readValue } from '../../fleet/documents/document.ts'
import { canonicalName } from '../../fleet/documents/names.ts'
import type { JobAction } from '../../fleet/job.ts'
import type { NodeChoice } from '../../fleet/node-choice.ts'
import { ProxyError } from '../../shared/errors.ts'

/** A job as it was requested. */
export interface RequestedJob {
  readonly action: JobAction
  /** The model that the nodes must have; null when none. */
  readonly source: Name | null
  /** The model that they have afterwards; null when it is the source. */
  readonly made: Name | null
  /** Digests of the blobs that they must have. */
  readonly digests: readonly string[]
  readonly wish: NodeChoice
  /** The body that each node gets: see JobSpec. */
  readonly body: Readonly<Record<string, unknown>>
}

export interface Name {
  readonly canonical: string
  /** As the caller wrote it: registries may distinguish upper case. */
  readonly written: string
}

/** Ollama's fields that name models, and fields that are sent to a node unchanged. */
export interface JobFields {
  readonly model?: string | null | undefined
  readonly source?: string | null | undefined
  readonly destination?: string | null | undefined
  readonly from?: string | null | undefined
  readonly files?: Readonly<Record<string, string>> | null | undefined
  readonly adapters?: Readonly<Record<string, string>> | null | undefined
  readonly [other: string]: unknown
}

/** Actions that may run on fewer nodes than could do them. */
const counted: readonly JobAction[] = ['pull', 'create', 'load']

/**
 * Reads a job from the fields of a request, of callers and of the admin API.
 *
 * @throws ProxyError `missing_model`, `bad_model`, `bad_request`.
 */
export function readJobRequest(action: JobAction, fields: JobFields, wish: NodeChoice): RequestedJob {
  if (wish.copies !== undefined && !counted.includes(action))
    throw new ProxyError('bad_request', { reason: `"copies" does not apply to ${action}; leave it out` })
  const job = { action, source: null, made: null, digests: [], wish }
  switch (action) {
    case 'pull': {
      const made = modelName(fields.model)
      return { ...job, made, body: bodyOf(fields, made) }
    }
    case 'copy': {
      const source = nameIn('source', fields.source)
      const made = nameIn('destination', fields.destination)
      return { ...job, source, made, body: { source: source.written, destination: made.written } }
    }
    case 'create':
      return createJob(job, fields)
    case 'delete': {
      const source = nameIn('name', fields.model)
      return { ...job, source, body: bodyOf(fields, source) }
    }
    default: {
      const source = modelName(fields.model)
      return { ...job, source, body: bodyOf(fields, source) }
    }
  }
}

/** A model is created from a base model, or from files that were uploaded before (docs/ollama.md#model-management). */
function createJob(job: Omit<RequestedJob, 'body'>, fields: JobFields): RequestedJob {
  const made = modelName(fields.model)
  const source = fields.from ? nameIn('from', fields.from) : null
  const files = Object.values(fields.files ?? {})
  if (!source && files.length === 0)
    throw new ProxyError('bad_request', { reason: "neither 'from' or 'files' was specified" })
  const digests = new Set([...(source ? [] : files), ...Object.values(fields.adapters ?? {})])
  const body = { ...bodyOf(fields, made), ...(source && { from: source.written }) }
  return { ...job, made, source, digests: [...digests], body }
}

function bodyOf(fields: JobFields, { written }: Name): Record<string, unknown> {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined)
  return { ...Object.fromEntries(given), model: written }
}

function modelName(text: string | null | undefined): Name {
  if (!text?.trim()) throw new ProxyError('missing_model')
  const name = readName(text)
  if (!name) throw new ProxyError('bad_model', { model: JSON.stringify(text.slice(0, 200)) })
  return name
}

function nameIn(field: string, text: string | null | undefined): Name {
  const name = readName(text ?? '')
  const reason = `${field} ${JSON.stringify((text ?? '').slice(0, 200))} is invalid`
  if (!name) throw new ProxyError('bad_request', { reason })
  return name
}

/** Removes a scheme, which could ask for plain HTTP, and `:local`, which is no tag. */
function readName(text: string): Name | null {
  const canonical = canonicalName(text)
  const written = text
    .trim()
    .replace(/^https?:\/\//i, '')
    .replace(/:local$/i, '')
  return canonical ? { canonical, written } : null
}

/**
 * The error for a model that no node has, or that the caller may not see: the two must look alike. Ollama quotes the
 * name in two ways.
 */
export function notFound({ action, source }: RequestedJob): ProxyError {
  const code = action === 'copy' ? 'source_not_found' : 'model_not_found'
  return new ProxyError(code, { model: (source?.written ?? '').slice(0, 400) })
}

/** @throws ProxyError `bad_request` naming every faulty field. */
export function readFields<S extends z.ZodType>(value: unknown, schema: S): z.output<S> {
  const fields = readValue(value, schema)
  if (!fields.ok) throw new ProxyError('bad_request', { reason: describeFaults(fields.faults) })
  return fields.value
}
