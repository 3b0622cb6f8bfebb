import { z } from 'zod'
import { type NodeChoice, nodeChoiceSchema } from '../../fleet/node-choice.ts'
import { ProxyError } from '../../shared/errors.ts'
import { FieldNames } from '../body/field-names.ts'
import { scanBody } from '../body/scan-body.ts'
import type { ManagedAction } from '../http/find-endpoint.ts'
import { type JobFields, type RequestedJob, readFields, readJobRequest } from './job-request.ts'

/** Bytes of a job, which is kept in the store until it is done. */
export const maxJobBytes = 1024 * 1024
/** Fields and items that are parsed in one turn; a model with a thousand files and messages has fewer. */
const maxValues = 10_000

const text = z.string().nullish()
const flag = z.boolean().nullish()
const anything = z.unknown().optional()
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'invalid digest format')
const files = z.record(z.string().min(1).max(1000), digest).nullish()
/** Ollama's client sends these fields empty. */
const neverPassedOn = z
  .literal('', { error: 'is not passed on to Ollama servers: leave it out' })
  .nullish()
  .transform(() => undefined)

const common = { model: text, name: text, stream: flag, llamero: nodeChoiceSchema.optional() }
const transfer = z.object({ ...common, insecure: flag, username: neverPassedOn, password: neverPassedOn })

/** The fields that are read and reach a node, by action (docs/ollama.md#requests, docs/ollama.md#model-management). */
const schemas = {
  pull: transfer,
  push: transfer,
  delete: z.object(common),
  copy: z.object({ source: text, destination: text, llamero: nodeChoiceSchema.optional() }),
  create: z.object({
    ...common,
    from: text,
    files,
    adapters: files,
    draft_files: files,
    quantize: text,
    quantization: text,
    template: text,
    license: anything,
    system: text,
    parameters: anything,
    messages: anything,
    renderer: text,
    parser: text,
    requires: text,
    info: anything,
    remote_host: neverPassedOn,
  }),
} satisfies Record<ManagedAction, z.ZodObject>

const namesOf = (action: ManagedAction) => new FieldNames(Object.keys(schemas[action].shape))
const names: Readonly<Record<ManagedAction, FieldNames>> = {
  pull: namesOf('pull'),
  push: namesOf('push'),
  create: namesOf('create'),
  copy: namesOf('copy'),
  delete: namesOf('delete'),
}

interface Fields extends JobFields {
  readonly name?: string | null | undefined
  readonly stream?: boolean | null | undefined
  readonly llamero?: NodeChoice | undefined
}

/** The job, and whether the response is a stream. */
interface JobRequest {
  readonly job: RequestedJob
  readonly streams: boolean
}

/**
 * Reads the body of a management request.
 *
 * @throws ProxyError `bad_json`, `bad_request`, and those of `readJobRequest`; the signal's reason.
 */
export async function readJobBody(
  action: ManagedAction,
  bytes: Buffer,
  signal: AbortSignal,
): Promise<JobRequest> {
  // A known field must occur once, in its own spelling: Go would take the last of any spelling.
  const { values } = await scanBody(bytes, [names[action]], signal)
  if (values > maxValues)
    throw new ProxyError('bad_json', { reason: `more than ${maxValues} fields and items; send fewer` })
  const fields: Fields = readFields(JSON.parse(bytes.toString('utf8')), schemas[action])
  const { llamero = {}, name, stream, ...rest } = fields
  return {
    job: readJobRequest(action, { ...rest, model: rest.model || name }, llamero),
    streams: action !== 'copy' && action !== 'delete' && (stream ?? true),
  }
}
