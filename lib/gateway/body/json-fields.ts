import { letterF, letterT, openBrace, openBracket, quote } from '../../shared/json/json-bytes.ts'
import { JsonWalk, ScanError, type WalkListener } from '../../shared/json/json-walk.ts'
import { FieldNames } from './field-names.ts'
import { PromptPieces } from './prompt-pieces.ts'

/** The position of a field. */
export interface Field {
  /** Position of the key's opening quote. */
  readonly key: number
  readonly start: number
  /** Position behind the value; for an object or array, behind its opening bracket. */
  readonly end: number
}

/** The fields of an object. */
export interface Members {
  /** Position of the opening brace. */
  readonly start: number
  readonly count: number
  /** The fields that were looked for, by name. */
  readonly fields: ReadonlyMap<string, Field>
}

export interface Scanned extends Members {
  /** The value of `model` and its range (quotes included); null when absent. */
  readonly model: (Field & { readonly value: string }) | null
  /** The value of `stream`; undefined when absent or no boolean: the default of the endpoint applies. */
  readonly stream: boolean | undefined
  /** The members of `options`, when looked for and an object. */
  readonly options: Members | null
  /** Number of fields and items at any depth. */
  readonly values: number
  /** The prompt. */
  readonly prompt: PromptPieces
}

/**
 * Fields of one object. Usual requests have about twenty; some keys are decoded, which must not be done a million
 * times.
 */
const maxFields = 1000

const plainNames = new FieldNames(['model', 'stream'])
const noNames = new FieldNames([])

/**
 * Scans one JSON object for the fields that routing and policy need.
 *
 * @param names fields to look for, with `model` and `stream`.
 * @param optionNames fields to look for within `options`, if that is looked for.
 * @throws ScanError with the reason when the bytes are not exactly one JSON object, nest deeper than 64, or have a
 * field that is looked for twice or in another case: Go would take the last of any spelling, and what is authorised
 * must be what runs.
 */
export function scan(bytes: Buffer, names = plainNames, optionNames = noNames): Scanned {
  const scanning = new Scan(bytes, names, optionNames)
  scanning.read(bytes.length * 2)
  return scanning.result()
}

/** `scan` in steps, for a body that would block the event loop for too long. */
export class Scan {
  readonly #bytes: Buffer
  readonly #prompt: PromptPieces
  readonly #body: MembersReader
  readonly #optionNames: FieldNames
  #options: MembersReader | null = null
  #isBodyRead = false

  constructor(bytes: Buffer, names = plainNames, optionNames = noNames) {
    this.#bytes = bytes
    this.#prompt = new PromptPieces(bytes)
    this.#body = new MembersReader(bytes, names, { from: 0, prompt: this.#prompt })
    this.#optionNames = optionNames
  }

  /** Reads about so many bytes more. Returns whether all are read. @throws ScanError */
  read(bytes: number): boolean {
    if (!this.#isBodyRead) {
      if (!this.#body.read(bytes)) return false
      this.#isBodyRead = true
      const options = this.#body.fields.get('options')
      if (options && this.#bytes[options.start] === openBrace)
        this.#options = new MembersReader(this.#bytes, this.#optionNames, {
          from: options.start,
          prompt: null,
        })
    }
    return this.#options?.read(bytes) ?? true
  }

  /** The result, when all bytes are read. */
  result(): Scanned {
    const { start, count, fields } = this.#body
    return {
      start,
      count,
      fields,
      model: modelIn(this.#bytes, fields.get('model')),
      stream: flagIn(this.#bytes, fields.get('stream')),
      options: this.#options,
      values: this.#body.values,
      prompt: this.#prompt,
    }
  }
}

/** Of a longer value only the beginning is read: it equals no expected value. */
const maxTextBytes = 4096

/** The JSON text of a scalar field. */
export function valueText(bytes: Buffer, { start, end }: Field): string {
  return bytes.toString('utf8', start, Math.min(end, start + maxTextBytes))
}

/** Reads the members of one object, and with `prompt` also notes its pieces; then only white space may follow. */
class MembersReader implements Members, WalkListener {
  readonly start: number
  readonly fields = new Map<string, Field>()
  count = 0
  readonly #bytes: Buffer
  readonly #names: FieldNames
  readonly #prompt: PromptPieces | null
  readonly #walk: JsonWalk
  /** Name of the wanted field that is being walked; "" for none. */
  #name = ''
  #key = 0
  #valueStart = 0
  /** The value that is being walked belongs to the prompt. */
  #isPrompt = false

  /** Begins at the object at `from`, or behind white space. @throws ScanError */
  constructor(
    bytes: Buffer,
    names: FieldNames,
    { from, prompt }: { readonly from: number; readonly prompt: PromptPieces | null },
  ) {
    this.#bytes = bytes
    this.#names = names
    this.#prompt = prompt
    this.#walk = new JsonWalk(bytes, from, this)
    this.start = this.#walk.begin()
  }

  get values(): number {
    return this.#walk.values
  }

  /** Reads about so many bytes more. Returns whether all is read. @throws ScanError */
  read(bytes: number): boolean {
    if (!this.#walk.advance(this.#walk.at + bytes)) return false
    if (this.#prompt) this.#walk.end()
    return true
  }

  field(keyStart: number, keyEnd: number, start: number): boolean {
    if (++this.count > maxFields) throw new ScanError(`more than ${maxFields} fields`)
    this.#name = this.#names.find(this.#bytes, keyStart, keyEnd) ?? ''
    if (this.#name !== '') {
      if (this.fields.has(this.#name)) throw new ScanError(`field "${this.#name}" occurs twice`)
      this.#key = keyStart
      this.#valueStart = start
      const first = this.#bytes[start]
      // For an object or array the range is its bracket, which no reader of a value accepts.
      if (first === openBrace || first === openBracket) this.#keep(start + 1)
    }
    this.#isPrompt = this.#prompt?.begin(keyStart, keyEnd, start) ?? false
    return this.#isPrompt || this.#name !== ''
  }

  valueEnded(end: number): void {
    if (this.#name !== '') this.#keep(end)
    if (this.#isPrompt) this.#prompt?.endValue(end)
  }

  itemEnded(end: number): boolean {
    return this.#isPrompt && (this.#prompt?.endItem(end) ?? false)
  }

  longString(start: number, end: number): void {
    this.#prompt?.passString(start, end)
  }

  #keep(end: number): void {
    this.fields.set(this.#name, { key: this.#key, start: this.#valueStart, end })
    this.#name = ''
  }
}

/** The longest model name, in any spelling. */
const maxModelBytes = 4096

function modelIn(bytes: Buffer, field: Field | undefined): Scanned['model'] {
  if (!field) return null
  if (bytes[field.start] !== quote) throw new ScanError('field "model" must be a string')
  if (field.end - field.start > maxModelBytes)
    throw new ScanError(`field "model" is longer than ${maxModelBytes} bytes`)
  const text = bytes.toString('utf8', field.start + 1, field.end - 1)
  return { ...field, value: text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text }
}

function flagIn(bytes: Buffer, field: Field | undefined): boolean | undefined {
  const first = field && bytes[field.start]
  return first === letterT ? true : first === letterF ? false : undefined
}
