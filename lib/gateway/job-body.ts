import { z } from 'zod'
import { ProxyError } from '../shared/errors.ts'
import { scanBody } from './admit.ts'
import { type JobAsk, type JobFields, jobAsk, readFields, type Wish, wishSchema } from './job-ask.ts'

export type ManagedAction = 'pull' | 'push' | 'create' | 'copy' | 'delete'

/** A job is kept in the store until it is done, which takes nothing larger. */
const maxBytes = 1024 * 1024

const text = z.string().nullish()
const flag = z.boolean().nullish()
const anything = z.unknown().optional()
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'invalid digest format')
const files = z.record(z.string().min(1).max(1000), digest).nullish()
/** Ollama's own client sends them empty. */
const neverPassedOn = z
  .literal('', { error: 'is not passed on to Ollama servers: leave it out' })
  .nullish()
  .transform(() => undefined)

const common = { model: text, name: text, stream: flag, llamero: wishSchema.optional() }
const transfer = z.object({ ...common, insecure: flag, username: neverPassedOn, password: neverPassedOn })

/** What of a body is read and reaches a node, by action (sheet ollama-api.md §1, §3); what is not here does not. */
const schemas = {
  pull: transfer,
  push: transfer,
  delete: z.object(common),
  copy: z.object({ source: text, destination: text, llamero: wishSchema.optional() }),
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

interface Fields extends JobFields {
  readonly name?: string | null | undefined
  readonly stream?: boolean | null | undefined
  readonly llamero?: Wish | undefined
}

/** What is asked, and whether the answer is to come in pieces. */
interface JobRequest {
  readonly ask: JobAsk
  readonly streams: boolean
}

/**
 * Reads the body of a management request.
 *
 * @throws ProxyError `body_too_large`, `bad_json`, `bad_request`, and those of `jobAsk`.
 */
export function readJobBody(action: ManagedAction, bytes: Buffer): JobRequest {
  if (bytes.length > maxBytes) throw new ProxyError('body_too_large', { limit: maxBytes })
  scanBody(bytes)
  const json = bytes.toString('utf8')
  const schema = schemas[action]
  checkKeys(json, Object.keys(schema.shape))
  const fields: Fields = readFields(JSON.parse(json), schema)
  const { llamero = {}, name, stream, ...rest } = fields
  return {
    ask: jobAsk(action, { ...rest, model: rest.model || name }, llamero),
    streams: action !== 'copy' && action !== 'delete' && (stream ?? true),
  }
}

/** Of a known field there may be one, in its own spelling: Go would take the last of any (sheet ollama-api.md §1.1). */
function checkKeys(json: string, known: readonly string[]): void {
  const seen = new Set<string>()
  for (const key of topLevelKeys(json)) {
    // As Go matches keys, by Unicode case folding: the long s and the Kelvin sign are letters of ours.
    const field = known.find((each) => each.toUpperCase() === key.replaceAll('\u212a', 'k').toUpperCase())
    if (field === undefined) continue
    if (key !== field)
      throw new ProxyError('bad_json', { reason: `field "${key}" must be written "${field}"` })
    if (seen.has(field)) throw new ProxyError('bad_json', { reason: `field "${field}" occurs twice` })
    seen.add(field)
  }
}

/** The keys of an object in JSON that is known to be well-formed. */
function* topLevelKeys(json: string): Generator<string> {
  let depth = 0
  for (const [token, , colon] of json.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|[{}[\]]/g)) {
    if (token === '{' || token === '[') depth++
    else if (token === '}' || token === ']') depth--
    else if (depth === 1 && colon !== undefined) yield JSON.parse(token.slice(0, -colon.length)) as string
  }
}
