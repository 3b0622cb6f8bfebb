import { backslash, letterF, letterT, openBrace, quote, wordAt } from './json-bytes.ts'
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
  readonly #names: readonly string[]
  /** By length, quotes included: a bit for the first letter of each name so long. Most keys are told apart by it. */
  readonly #letters = new Uint32Array(32)

  constructor(names: readonly string[]) {
    this.#names = names
    for (const name of names) {
      const length = name.length + 2
      this.#letters[length] = (this.#letters[length] ?? 0) | (1 << (name.charCodeAt(0) & 31))
    }
  }

  /**
   * The name that a key, quotes included, says in its own spelling. @throws ScanError where Go would take another spelling
   * for it: it matches by Unicode case folding, so do these two mappings (ſ, K).
   */
  find(bytes: Buffer, from: number, to: number): string | undefined {
    if (!this.#mayMatch(bytes, from, to)) return undefined
    const plain = wordAt(bytes, from + 1, to - 1, this.#names)
    if (plain !== undefined) return plain
    const key = JSON.parse(bytes.toString('utf8', from, to)) as string
    const folded = key.toUpperCase().toLowerCase()
    const name = this.#names.find((each) => each === folded)
    if (name !== undefined && key !== name) throw new ScanError(`field "${key}" must be written "${name}"`)
    return name
  }

  /** Whether these bytes, quotes included, may spell one of the names. An escape or a byte beyond ASCII may hide one. */
  #mayMatch(bytes: Uint8Array, from: number, to: number): boolean {
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
export function scan(bytes: Buffer, names = plainNames, optionNames = noNames): Scanned {
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
export function valueText(bytes: Buffer, { start, end }: Field): string {
  return bytes.toString('utf8', start, end)
}

/**
 * The object that begins at `from`, or behind white space. With a `prompt` to be taken note of it is the whole body:
 * nothing but white space may follow.
 */
function membersOf(
  bytes: Buffer,
  names: FieldNames,
  { from, prompt }: { from: number; prompt: PromptPieces | null },
): Members {
  const fields = new Map<string, Field>()
  let count = 0
  const walk = new JsonWalk(bytes, from, {
    field: (keyStart, keyEnd, start) => {
      if (++count > maxFields) throw new ScanError(`more than ${maxFields} fields`)
      const name = names.find(bytes, keyStart, keyEnd)
      if (name !== undefined) {
        if (fields.has(name)) throw new ScanError(`field "${name}" occurs twice`)
        fields.set(name, { key: keyStart, start, end: walk.endOfScalar(start) })
      }
      return prompt?.begin(keyStart, keyEnd, start) ?? false
    },
    valueEnded: (end) => prompt?.endValue(end),
    itemEnded: (end) => prompt?.endItem(end) ?? false,
    longString: (begin, end) => prompt?.passString(begin, end),
  })
  const start = walk.object()
  if (prompt) walk.end()
  return { start, count, fields }
}

function modelIn(bytes: Buffer, field: Field | undefined): Scanned['model'] {
  if (!field) return null
  if (bytes[field.start] !== quote) throw new ScanError('field "model" must be a string')
  const text = bytes.toString('utf8', field.start + 1, field.end - 1)
  return { ...field, value: text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text }
}

function flagIn(bytes: Buffer, field: Field | undefined): boolean | undefined {
  const first = field && bytes[field.start]
  return first === letterT ? true : first === letterF ? false : undefined
}
