import { backslash, openBrace, quote, textOf } from './json-bytes.ts'
import { JsonWalk, ScanError } from './json-walk.ts'
import { PromptPieces } from './prompt-pieces.ts'

/** Where a field stands: its key, and the value's bytes. */
export interface Field {
  /** Of the key's opening quote. */
  readonly key: number
  readonly start: number
  /** Behind the value; of an object or array the byte behind its bracket. */
  readonly end: number
}

/** What is known of an object's fields. */
export interface Members {
  /** Of the opening brace. */
  readonly start: number
  readonly count: number
  /** Those that were looked for, by name. */
  readonly fields: ReadonlyMap<string, Field>
}

export interface Scanned extends Members {
  /** The value of `model`, with the bytes it spans (quotes included), or null when there is none. */
  readonly model: (Field & { readonly value: string }) | null
  /** The value of `stream`; undefined when absent or not a boolean, which leaves the route's default. */
  readonly stream: boolean | undefined
  /** The members of `options`, when that was looked for and is an object. */
  readonly options: Members | null
  /** What a model will read. */
  readonly prompt: PromptPieces
}

/** Names of fields to look for. */
export class FieldNames {
  readonly #names: ReadonlySet<string>
  /** By length, quotes included: a bit for the first letter of each name so long. Most keys are told apart by it. */
  readonly #letters = new Uint32Array(32)

  constructor(names: readonly string[]) {
    this.#names = new Set(names)
    for (const name of names) {
      const length = name.length + 2
      this.#letters[length] = (this.#letters[length] ?? 0) | (1 << (name.charCodeAt(0) & 31))
    }
  }

  /** The name that Go would take the key for: it matches by Unicode case folding, so do these two mappings (ſ, K). */
  find(key: string): string | null {
    if (this.#names.has(key)) return key
    const folded = key.toUpperCase().toLowerCase()
    return this.#names.has(folded) ? folded : null
  }

  /** Whether these bytes, quotes included, may spell one of the names. An escape or a byte beyond ASCII may hide one. */
  mayMatch(bytes: Uint8Array, from: number, to: number): boolean {
    const length = to - from
    const letters = this.#letters[length]
    if (letters && (letters >>> ((bytes[from + 1] as number) & 31)) & 1) return true
    if (length > maxKeyBytes) return false
    for (let at = from; at < to; at++) {
      const byte = bytes[at] as number
      if (byte === backslash || byte > 0x7f) return true
    }
    return false
  }
}

/** No spelling of a name is longer: six bytes for each letter of 30 at most. */
const maxKeyBytes = 182
/** Of one object. Honest requests have a score; the keys of some are decoded, which a million must not be. */
const maxFields = 1000

const plainNames = new FieldNames(['model', 'stream'])
const noNames = new FieldNames([])

/**
 * Scans one JSON object for the fields that routing and policy need.
 *
 * @param names what to look for, `model` and `stream` among it.
 * @param optionNames what to look for within `options`, where that is looked for.
 * @throws ScanError with the reason when the bytes are not exactly one JSON object, nest deeper than 64, or name a field
 *   that is looked for twice or in another case: Go would take the last of any spelling, and what is authorised must be
 *   what runs (sheet ollama-api.md §1.1).
 */
export function scan(bytes: Uint8Array, names = plainNames, optionNames = noNames): Scanned {
  const prompt = new PromptPieces(bytes)
  const { start, count, fields } = membersOf(bytes, names, { from: 0, prompt })
  const options = fields.get('options')
  return {
    start,
    count,
    fields,
    model: modelIn(bytes, fields.get('model')),
    stream: flagIn(bytes, fields.get('stream')),
    options:
      options && bytes[options.start] === openBrace
        ? membersOf(bytes, optionNames, { from: options.start, prompt: null })
        : null,
    prompt,
  }
}

/** What a field says; the JSON text of a scalar. */
export function valueText(bytes: Uint8Array, { start, end }: Field): string {
  return textOf(bytes, start, end)
}

/**
 * The object that begins at `from`, or behind white space. With a `prompt` to be taken note of it is the whole body:
 * nothing but white space may follow.
 */
function membersOf(
  bytes: Uint8Array,
  names: FieldNames,
  { from, prompt }: { from: number; prompt: PromptPieces | null },
): Members {
  const fields = new Map<string, Field>()
  let count = 0
  const walk = new JsonWalk(bytes, from, {
    field: (keyStart, keyEnd, start) => {
      if (++count > maxFields) throw new ScanError(`more than ${maxFields} fields`)
      if (prompt?.begin(keyStart, keyEnd, start)) return true
      if (!names.mayMatch(bytes, keyStart, keyEnd)) return false
      const key = JSON.parse(textOf(bytes, keyStart, keyEnd)) as string
      const name = names.find(key)
      if (name === null) return false
      if (key !== name) throw new ScanError(`field "${key}" must be written "${name}"`)
      if (fields.has(name)) throw new ScanError(`field "${name}" occurs twice`)
      fields.set(name, { key: keyStart, start, end: walk.endOfScalar(start) })
      return false
    },
    valueEnded: (end) => prompt?.endValue(end),
    itemEnded: (end) => prompt?.endItem(end) ?? false,
    longString: (begin, end) => prompt?.passString(begin, end),
  })
  const start = walk.object()
  if (prompt) walk.end()
  return { start, count, fields }
}

function modelIn(bytes: Uint8Array, field: Field | undefined): Scanned['model'] {
  if (!field) return null
  if (bytes[field.start] !== quote) throw new ScanError('field "model" must be a string')
  return { ...field, value: JSON.parse(valueText(bytes, field)) as string }
}

function flagIn(bytes: Uint8Array, field: Field | undefined): boolean | undefined {
  const text = field ? valueText(bytes, field) : ''
  return text === 'true' ? true : text === 'false' ? false : undefined
}
