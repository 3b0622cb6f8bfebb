import { canonicalName } from '../../fleet/documents/names.ts'
import type { InventoryModel, LoadedModel } from '../../fleet/node.ts'
import { comma, isSpace, openBracket } from '../../shared/json/json-bytes.ts'
import { JsonWalk, ScanError, type WalkListener } from '../../shared/json/json-walk.ts'
import { turns } from '../../shared/turns.ts'

/**
 * Reads the models of a node as hostile input, since any server may answer at a node's address. Invalid items are
 * skipped, text is bounded, and the result is small enough for one value in the store (etcd refuses 1.5 MiB).
 */
const maxModels = 10_000
const maxTagsBytes = 1024 * 1024
const maxLoadedBytes = 256 * 1024
const maxText = 200
const maxDetails = 32
/** The ollama CLI shows this many characters of a digest, and crashes on a shorter one. */
const shownDigits = 12

/** A body up to this size is parsed in one turn, which takes a few milliseconds at most. */
const smallBytes = 64 * 1024
/** Bytes walked between two checks of the time. */
const stepBytes = 16 * 1024

type Fields = Readonly<Record<string, unknown>>

/** Models on disk, from the body of `/api/tags`, sorted by name; null when the body is not from Ollama. */
export function readTags(body: Buffer): Promise<InventoryModel[] | null> {
  return readModels(body, maxTagsBytes, (fields, model) => {
    const capabilities = textsIn(fields['capabilities'])
    const modified_at = textIn(fields['modified_at'])
    return { ...model, modified_at, ...(capabilities.length > 0 && { capabilities }) }
  })
}

/** Models in memory, from the body of `/api/ps`, sorted by name; null when the body is not from Ollama. */
export function readLoaded(body: Buffer): Promise<LoadedModel[] | null> {
  return readModels(body, maxLoadedBytes, (fields, model) => ({
    ...model,
    size_vram: countIn(fields['size_vram']),
    context_length: countIn(fields['context_length']),
    expires_at: textIn(fields['expires_at']),
  }))
}

/** Ollama's version, from the body of `/api/version`; null when the body is not from Ollama. */
export function readVersion(body: Buffer): string | null {
  const version = body.length <= smallBytes ? fieldsOf(parse(body))?.['version'] : null
  return typeof version === 'string' ? version.slice(0, maxText) : null
}

interface Model {
  readonly name: string
  readonly shown?: string
  readonly digest: string
  readonly size: number
  readonly details: Fields
}

async function readModels<M extends Model>(
  body: Buffer,
  maxBytes: number,
  complete: (fields: Fields, model: Model) => M,
): Promise<M[] | null> {
  const items = body.length <= smallBytes ? itemsOf(body) : await itemsInTurns(body)
  if (items === null) return null
  const models = new Map<string, M>()
  let bytes = 0
  let turn = turns.begin()
  for (const item of items.slice(0, maxModels)) {
    if (turn.isOver) turn = await turns.next()
    const fields = fieldsOf(Buffer.isBuffer(item) ? parse(item) : item)
    const model = fields && readModel(fields)
    if (!fields || !model || models.has(model.name)) continue
    const whole = complete(fields, model)
    bytes += Buffer.byteLength(JSON.stringify(whole))
    if (bytes > maxBytes) break
    models.set(whole.name, whole)
  }
  return [...models.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The items of the list `models`; null when there is none. */
function itemsOf(body: Buffer): readonly unknown[] | null {
  const answer = fieldsOf(parse(body))
  const listed = answer?.['models'] ?? (answer && 'models' in answer ? [] : null) // Go writes an empty list as null
  return Array.isArray(listed) ? listed : null
}

/**
 * The bytes of each item, for a body that is too large to be parsed in one turn. Items that are too large are left out.
 */
async function itemsInTurns(body: Buffer): Promise<Buffer[] | null> {
  try {
    let turn = await turns.next()
    const items = new ListItems(body)
    while (!items.read(stepBytes)) if (turn.isOver) turn = await turns.next()
    return items.isListed ? items.found : null
  } catch (error) {
    if (error instanceof ScanError) return null
    throw error
  }
}

/** Walks a body and finds the bytes of each item of its list `models`. */
class ListItems implements WalkListener {
  readonly found: Buffer[] = []
  isListed = false
  readonly #body: Buffer
  readonly #walk: JsonWalk
  #itemStart = 0
  #isModels = false

  constructor(body: Buffer) {
    this.#body = body
    this.#walk = new JsonWalk(body, 0, this)
    this.#walk.begin()
  }

  /** Reads about this many more bytes. Returns whether everything is read. @throws ScanError */
  read(bytes: number): boolean {
    if (!this.#walk.advance(this.#walk.at + bytes)) return false
    this.#walk.end()
    return true
  }

  field(keyStart: number, keyEnd: number, valueStart: number): boolean {
    this.#isModels = this.#body.toString('latin1', keyStart, Math.min(keyEnd, keyStart + 20)) === '"models"'
    if (this.#isModels) this.isListed = this.#body[valueStart] === openBracket
    this.#itemStart = valueStart + 1
    return this.#isModels && this.isListed
  }

  itemEnded(end: number): boolean {
    let start = this.#itemStart
    while (this.#body[start] === comma || isSpace[this.#body[start] ?? 0] === 1) start++
    if (end - start <= smallBytes) this.found.push(this.#body.subarray(start, end))
    this.#itemStart = end
    return this.found.length < maxModels
  }

  valueEnded(): void {}

  longString(): void {}
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

/** Keeps text, numbers and lists of text: Ollama's details hold nothing else. */
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

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    return null // not JSON, so not from Ollama
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
