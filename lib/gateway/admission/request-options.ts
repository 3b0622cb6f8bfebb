import type { CallerPolicy, ModelOptions } from '../../fleet/caller-options.ts'
import { type LoadOptions, loadOptions, writeVariant } from '../../fleet/models/variant.ts'
import { type Api, embeds } from '../../fleet/request-spec.ts'
import { ProxyError } from '../../shared/errors.ts'
import { openBrace, openBracket } from '../../shared/json/json-bytes.ts'
import { FieldNames } from '../body/field-names.ts'
import { type Edit, editsOf } from '../body/json-edit.ts'
import { type Field, type Members, type Scanned, valueText } from '../body/json-fields.ts'
import { effectOf } from './keep-alive-policy.ts'
import { refuseFields } from './refused-fields.ts'
import { contextIn } from './resolve-model.ts'
import { serverToolChanges } from './server-tools.ts'

/** What holds for the options of one request. */
export interface OptionPolicy {
  readonly callers: CallerPolicy
  /** The key has scope admin: its keep_alive is not changed. */
  readonly isAdmin: boolean
  /** For the model that shall answer. */
  readonly numCtx: ModelOptions['num_ctx']
  /** The model to write into a body that names none. */
  readonly model?: string
}

export interface Adjustment {
  readonly edits: readonly Edit[]
  /** The changes, as `x-llamero-adjusted` lists them: names, and values of llamero, in a fixed order. */
  readonly adjusted: readonly string[]
  /** See `RequestSpec`. */
  readonly variant: string
  readonly maxTokens: number | null
  /** The request only unloads the model, and the caller may do that. */
  readonly unloads: boolean
}

/**
 * Fields of Ollama's own endpoints. `shift` is not in `options`, but also decides about the runner
 * (docs/ollama.md#requests).
 */
const nativeNames = new FieldNames([
  'model',
  'stream',
  'keep_alive',
  'options',
  'raw',
  'template',
  '_debug_render_only',
  'shift',
])
const noMembers: Members = { start: 0, count: 0, fields: new Map() }
const optionNames = new FieldNames([...loadOptions, 'num_predict'])

/** The names of num_predict in other APIs; no other option has a name there (docs/ollama.md#requests). */
const limitFields: Readonly<Partial<Record<Api, string>>> = {
  openai_chat: 'max_tokens',
  openai_completions: 'max_tokens',
  openai_responses: 'max_output_tokens',
  anthropic_messages: 'max_tokens',
}
/** APIs with tools that a node may run itself. */
const withServerTools: ReadonlySet<Api> = new Set([
  'openai_chat',
  'openai_responses',
  'openai_unlisted',
  'anthropic_messages',
])
const namesByApi = new Map<Api, FieldNames>()

/** The fields that a scan must find for `adjustOptions`: at the top, and in `options`. */
export function namesFor(api: Api): readonly [FieldNames, FieldNames?] {
  if (takesOptions(api)) return [nativeNames, optionNames]
  const known = namesByApi.get(api)
  if (known) return [known]
  const more = [limitFields[api] ?? [], withServerTools.has(api) ? 'tools' : []].flat()
  const names = new FieldNames(['model', 'stream', 'keep_alive', ...more])
  namesByApi.set(api, names)
  return [names]
}

/**
 * Decides which options reach a node. Pure: nothing is changed here.
 *
 * @throws ProxyError `option_refused`; `bad_json` for an object or array where no such thing may stand.
 */
export function adjustOptions(bytes: Buffer, body: Scanned, api: Api, policy: OptionPolicy): Adjustment {
  if (takesOptions(api)) return adjustNative(bytes, body, api, policy)
  const limit = limitFields[api]
  const set = new Map<string, string>()
  // Anthropic's API requires the field: the node refuses a request without it.
  const isMissing = limit !== undefined && api === 'anthropic_messages' && !body.fields.has(limit)
  if (limit && !isMissing) capTokens(bytes, body, limit, policy.callers.num_predict, set)
  const removed = takesKeepAlive(keepAliveOf(bytes, body, api), policy)
  const named =
    body.model || policy.model === undefined ? [] : [['model', JSON.stringify(policy.model)] as const]
  const tools = withServerTools.has(api)
    ? serverToolChanges(bytes, body, policy.callers.server_tools)
    : { edits: [], names: [] }
  return {
    edits: [...editsOf(bytes, body, { removed, set: new Map([...named, ...set]) }), ...tools.edits],
    adjusted: [...(removed ? ['keep_alive'] : []), ...tools.names, ...written('', set)],
    variant: '',
    maxTokens: limit ? limitIn(bytes, body, limit, set) : null,
    unloads: false,
  }
}

function adjustNative(bytes: Buffer, body: Scanned, api: Api, policy: OptionPolicy): Adjustment {
  refuseFields(bytes, body, policy.callers)
  const { callers } = policy
  const given = keepAliveOf(bytes, body, api)
  const keepAlive = takesKeepAlive(given, policy)
  const options = body.options ?? noMembers
  const set = new Map<string, string>()
  setContext(bytes, options, policy.numCtx, set)
  const numGpu = callers.num_gpu === 'drop' ? options.fields.get('num_gpu') : undefined
  if (numGpu) scalarText(bytes, numGpu, 'num_gpu')
  if (!embeds(api)) capTokens(bytes, options, 'num_predict', callers.num_predict, set)
  const changes = { removed: numGpu, set }
  const isChanged = keepAlive || numGpu || set.size > 0
  return {
    edits: isChanged ? nativeEdits(bytes, body, keepAlive, changes) : [],
    adjusted: isChanged ? namesOf(keepAlive, changes) : [],
    variant: variantOf(bytes, body, changes),
    maxTokens: limitIn(bytes, options, 'num_predict', set),
    unloads: given?.does === 'unload',
  }
}

function namesOf(keepAlive: Field | undefined, { removed, set }: OptionChanges): string[] {
  return [
    ...(keepAlive ? ['keep_alive'] : []),
    ...(removed ? ['options.num_gpu'] : []),
    ...written('options.', set),
  ]
}

interface OptionChanges {
  readonly removed: Field | undefined
  readonly set: ReadonlyMap<string, string>
}

function nativeEdits(
  bytes: Buffer,
  body: Scanned,
  keepAlive: Field | undefined,
  changes: OptionChanges,
): Edit[] {
  const top = new Map<string, string>()
  const given = body.fields.get('options')
  // The node refuses options that are neither an object nor null.
  const areAbsent = !given || valueText(bytes, given) === 'null'
  if (areAbsent && changes.set.size > 0) top.set('options', objectText(changes.set))
  return [
    ...editsOf(bytes, body, { removed: keepAlive, set: top }),
    ...(body.options ? editsOf(bytes, body.options, changes) : []),
  ]
}

interface KeepAlive {
  readonly field: Field
  /** `unload`: the request does nothing else. `unload-after`: its prompt is answered first. */
  readonly does: 'unload' | 'unload-after' | 'forever' | 'ordinary'
}

function keepAliveOf(bytes: Buffer, body: Scanned, api: Api): KeepAlive | undefined {
  const field = body.fields.get('keep_alive')
  if (!field) return undefined
  const text = scalarText(bytes, field, 'keep_alive')
  if (text === 'null') return undefined
  const effect = effectOf(text)
  if (effect !== 'unload') return { field, does: effect }
  return { field, does: asksForAnswer(bytes, body, api) ? 'unload-after' : 'unload' }
}

/**
 * The keep_alive field when it is removed: by policy, or because it would pin the model, or unload it after the
 * response.
 *
 * @throws ProxyError `option_refused` for a request that only unloads: without the field nothing would be left of it.
 */
function takesKeepAlive(given: KeepAlive | undefined, { isAdmin, callers }: OptionPolicy): Field | undefined {
  if (!given || isAdmin) return undefined
  if (given.does === 'unload') {
    const reason = 'a request that only unloads a model needs a key with the scope admin'
    throw new ProxyError('option_refused', { field: 'keep_alive', reason })
  }
  return given.does !== 'ordinary' || callers.keep_alive === 'ours' ? given.field : undefined
}

/** The field with the prompt. Without a prompt Ollama only loads or unloads the model (server/routes.go). */
const questions: Readonly<Partial<Record<Api, string>>> = {
  ollama_chat: 'messages',
  ollama_generate: 'prompt',
  ollama_embed: 'input',
  ollama_embeddings: 'prompt',
}

function asksForAnswer(bytes: Buffer, { prompt }: Scanned, api: Api): boolean {
  const question = questions[api]
  // Only Ollama's own known paths are known to unload.
  if (question === undefined) return true
  return prompt
    .of([question])
    .some(({ start, end }) => end - start > 4 || !['""', 'null'].includes(bytes.toString('utf8', start, end)))
}

/** A cap applies to callers that set num_ctx; without it the node uses its own context. */
function setContext(
  bytes: Buffer,
  options: Members,
  setting: OptionPolicy['numCtx'],
  set: Map<string, string>,
): void {
  if (setting === undefined) return
  const asked = numberIn(bytes, options.fields.get('num_ctx'), 'num_ctx')
  const wanted = contextIn(setting, asked ?? undefined)
  if (wanted !== undefined && wanted !== asked && !Number.isNaN(wanted)) set.set('num_ctx', String(wanted))
}

/** Without a number above 0 Ollama generates until the context is full. */
function capTokens(
  bytes: Buffer,
  object: Members,
  name: string,
  cap: CallerPolicy['num_predict'],
  set: Map<string, string>,
): void {
  if (cap === 'none') return
  const asked = numberIn(bytes, object.fields.get(name), name)
  if (asked === null || asked <= 0 || asked > cap) set.set(name, String(cap))
}

/** The limit of generated tokens; null without one. */
function limitIn(
  bytes: Buffer,
  { fields }: Members,
  name: string,
  set: ReadonlyMap<string, string>,
): number | null {
  const field = fields.get(name)
  const limit = Number(set.get(name) ?? (field && valueText(bytes, field)))
  return limit > 0 && Number.isFinite(limit) ? limit : null
}

function variantOf(bytes: Buffer, { options, fields }: Scanned, { removed, set }: OptionChanges): string {
  // Most requests set no load option.
  if (!options?.fields.size && set.size === 0 && !fields.has('shift')) return ''
  const load: Record<string, number | boolean> = {}
  for (const name of loadOptions) {
    const field = options?.fields.get(name)
    const text = set.get(name) ?? (field && field !== removed ? scalarText(bytes, field, name) : 'null')
    const value = loadValue(text)
    // Automatic layers fit any runner (docs/ollama.md#requests).
    if (value !== null && !(name === 'num_gpu' && value === -1)) load[name] = value
  }
  const shift = fields.get('shift')
  const isSaid = shift && loadValue(scalarText(bytes, shift, 'shift'))
  if (typeof isSaid === 'boolean') load['shift'] = isSaid
  return writeVariant(load satisfies LoadOptions)
}

/** The node refuses values of another type. */
function loadValue(text: string): number | boolean | null {
  if (text === 'true' || text === 'false') return text === 'true'
  const value = Math.trunc(Number(text === 'null' ? 'none' : text))
  return Number.isSafeInteger(value) ? value : null
}

/** Null when absent or null, NaN when not a number. */
function numberIn(bytes: Buffer, field: Field | undefined, name: string): number | null {
  const text = field ? scalarText(bytes, field, name) : 'null'
  return text === 'null' ? null : Number(text)
}

/** Bytes of an option value: a number, a flag or a short text. */
const maxScalarBytes = 1000

function scalarText(bytes: Buffer, field: Field, name: string): string {
  const first = bytes[field.start]
  if (first === openBrace || first === openBracket)
    throw new ProxyError('bad_json', { reason: `field "${name}" must not be an object or array` })
  if (field.end - field.start > maxScalarBytes)
    throw new ProxyError('bad_json', { reason: `field "${name}" is longer than ${maxScalarBytes} bytes` })
  return valueText(bytes, field)
}

function objectText(set: ReadonlyMap<string, string>): string {
  return `{${[...set].map(([name, text]) => `"${name}":${text}`).join()}}`
}

function written(prefix: string, set: ReadonlyMap<string, string>): string[] {
  return [...set].map(([name, text]) => `${prefix}${name}=${text}`)
}

/** Whether requests have Ollama's `options`, and so may choose a context. */
export function takesOptions(api: Api): boolean {
  return api.startsWith('ollama_') && api !== 'ollama_systemone'
}
