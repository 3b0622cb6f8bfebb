import { canonicalName } from '../fleet/names.ts'
import type { InventoryModel, LoadedModel } from '../fleet/node.ts'

/**
 * What a node says it has, read as hostile input: any server may stand behind a node's address. Junk is skipped, text is
 * bounded, and the whole stays small enough for one value in the store (etcd refuses 1.5 MiB).
 */
const maxModels = 10_000
const maxTagsBytes = 1024 * 1024
const maxLoadedBytes = 256 * 1024
const maxText = 200
const maxDetails = 32
/** The ollama CLI cuts as many from each digest it lists, and falls over one that is shorter. */
const shownDigits = 12

type Fields = Readonly<Record<string, unknown>>

/** Models on disk, from the body of `/api/tags`, by name; null when this is not Ollama's answer. */
export function readTags(body: string): InventoryModel[] | null {
  return readModels(body, maxTagsBytes, (fields, model) => {
    const capabilities = textsIn(fields['capabilities'])
    const modified_at = textIn(fields['modified_at'])
    return { ...model, modified_at, ...(capabilities.length > 0 && { capabilities }) }
  })
}

/** Models in memory, from the body of `/api/ps`, by name; null when this is not Ollama's answer. */
export function readLoaded(body: string): LoadedModel[] | null {
  return readModels(body, maxLoadedBytes, (fields, model) => ({
    ...model,
    size_vram: countIn(fields['size_vram']),
    context_length: countIn(fields['context_length']),
    expires_at: textIn(fields['expires_at']),
  }))
}

/** Ollama's version, from the body of `/api/version`; null when this is not Ollama's answer. */
export function readVersion(body: string): string | null {
  const version = fieldsOf(parse(body))?.['version']
  return typeof version === 'string' ? version.slice(0, maxText) : null
}

interface Model {
  readonly name: string
  readonly shown?: string
  readonly digest: string
  readonly size: number
  readonly details: Fields
}

function readModels<M extends Model>(
  body: string,
  maxBytes: number,
  complete: (fields: Fields, model: Model) => M,
): M[] | null {
  const answer = fieldsOf(parse(body))
  const listed = answer?.['models'] ?? (answer && 'models' in answer ? [] : null) // Go writes an empty list as null
  if (!Array.isArray(listed)) return null
  const models = new Map<string, M>()
  let bytes = 0
  for (const item of listed.slice(0, maxModels)) {
    const fields = fieldsOf(item)
    const model = fields && readModel(fields)
    if (!fields || !model || models.has(model.name)) continue
    const whole = complete(fields, model)
    bytes += Buffer.byteLength(JSON.stringify(whole))
    if (bytes > maxBytes) break
    models.set(whole.name, whole)
  }
  return [...models.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

function readModel(fields: Fields): Model | null {
  const given = fields['name'] ?? fields['model']
  if (typeof given !== 'string') return null
  const name = canonicalName(given)
  if (name === null) return null
  return {
    name,
    ...(given !== name && given.toLowerCase() === name && { shown: given }),
    digest: textIn(fields['digest']).padEnd(shownDigits, '0'),
    size: countIn(fields['size']),
    details: detailsIn(fields['details']),
  }
}

/** Ollama's details hold text, numbers and lists of text only; anything else is not from Ollama. */
function detailsIn(value: unknown): Fields {
  const known = Object.entries(fieldsOf(value) ?? {}).slice(0, maxDetails)
  return Object.fromEntries(
    known.flatMap(([name, detail]): [string, unknown][] => {
      const key = name.slice(0, maxText)
      if (typeof detail === 'string') return [[key, textIn(detail)]]
      if (Array.isArray(detail)) return [[key, textsIn(detail)]]
      return detail === null || typeof detail === 'number' || typeof detail === 'boolean'
        ? [[key, detail]]
        : []
    }),
  )
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return null // not JSON is one more way of not being Ollama
  }
}

function fieldsOf(value: unknown): Fields | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : null
}

function textIn(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, maxText) : ''
}

function textsIn(value: unknown): string[] {
  if (!Array.isArray(value)) return []
  return value.slice(0, maxDetails).flatMap((text) => (typeof text === 'string' ? [textIn(text)] : []))
}

function countIn(value: unknown): number {
  return typeof value === 'number' && value >= 0 && Number.isSafeInteger(value) ? value : 0
}
