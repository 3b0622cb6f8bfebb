import type { z } from 'zod'
import { describeFaults } from '../../fleet/documents/contents.ts'
import { readValue } from '../../fleet/documents/document.ts'
import { canonicalName } from '../../fleet/documents/names.ts'
import type { JobAction } from '../../fleet/job.ts'
import type { Wish } from '../../fleet/job-wish.ts'
import { ProxyError } from '../../shared/errors.ts'

/** What a request wants done to models, as it was understood. */
export interface RequestedJob {
  readonly action: JobAction
  /** The model the nodes must have, by its canonical name; null where they need none. */
  readonly source: Name | null
  /** The model they have afterwards, where that is another. */
  readonly made: Name | null
  /** Blobs they must have, by digest. */
  readonly digests: readonly string[]
  readonly wish: Wish
  /** What each node gets: see JobSpec. */
  readonly body: Readonly<Record<string, unknown>>
}

export interface Name {
  readonly canonical: string
  /** As the caller wrote it: registries may tell upper case from lower. */
  readonly written: string
}

/** The fields of Ollama's that name models, and those that go to a node as they are. */
export interface JobFields {
  readonly model?: string | null | undefined
  readonly source?: string | null | undefined
  readonly destination?: string | null | undefined
  readonly from?: string | null | undefined
  readonly files?: Readonly<Record<string, string>> | null | undefined
  readonly adapters?: Readonly<Record<string, string>> | null | undefined
  readonly [other: string]: unknown
}

/** Those that may be done on fewer nodes than could. */
const counted: readonly JobAction[] = ['pull', 'create', 'load']

/**
 * Understands what is asked, whoever asks it in whatever way.
 *
 * @throws ProxyError `missing_model`, `bad_model`, `bad_request`.
 */
export function readJobRequest(action: JobAction, fields: JobFields, wish: Wish): RequestedJob {
  if (wish.copies !== undefined && !counted.includes(action))
    throw new ProxyError('bad_request', { reason: `"copies" does not apply to ${action}` })
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

/** A model is made from a base, whose files count then, or from files that were sent before (docs/ollama.md#model-management). */
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

/** Without a scheme, which could ask for plain HTTP, and `:local`, which is no tag. */
function readName(text: string): Name | null {
  const canonical = canonicalName(text)
  const written = text
    .trim()
    .replace(/^https?:\/\//i, '')
    .replace(/:local$/i, '')
  return canonical ? { canonical, written } : null
}

/** Of a model that no node has, or the caller may not see: the two must look alike. Ollama quotes them in two ways. */
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
