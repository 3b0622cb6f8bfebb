import { Refusal } from './refusal.ts'

/**
 * The first JSON value of a request body, decoded as Go's decoder does: bytes after the value are ignored, and so is the
 * Content-Type (docs/ollama.md#requests).
 * @throws Refusal 400 with Go's words: `EOF` for an empty body, which the native routes reword.
 */
export function decodeBody(bytes: Buffer): unknown {
  const text = bytes.toString('utf8').trimStart()
  if (text === '') throw new Refusal(400, emptyBodyText)
  try {
    return JSON.parse(text)
  } catch {
    return parseFirst(text)
  }
}

export const emptyBodyText = 'EOF'

function parseFirst(text: string): unknown {
  if (!/^[[{"\-\dtfn]/.test(text)) {
    throw new Refusal(400, `invalid character '${text[0]}' looking for beginning of value`)
  }
  const end = endOfValue(text)
  if (end === null) throw new Refusal(400, 'unexpected EOF')
  try {
    return JSON.parse(text.slice(0, end))
  } catch (error) {
    const [, token, at = 0] = /token '(.)'|position (\d+)/s.exec(String(error)) ?? []
    const character = token ?? text[Number(at)]
    throw new Refusal(400, `invalid character '${character}' looking for beginning of value`)
  }
}

/** End of the object, array or string that opens `text`; null when it does not close. */
function endOfValue(text: string): number | null {
  let depth = 0
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/gs)) {
    if ('[{'.includes(token)) depth++
    else if (']}'.includes(token)) depth--
    if (depth <= 0) return index + token.length
  }
  return depth > 0 ? null : text.length
}

/**
 * The fields of a request object under Go's rules: keys match in any case, the last of two that match wins, null is
 * absent, and a wrong type is a 400 in the decoder's words.
 */
export class Fields {
  readonly #values = new Map<string, unknown>()
  readonly #struct: string

  /** @param struct the Go type that the error texts name. */
  constructor(value: unknown, struct: string) {
    this.#struct = struct
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new Refusal(400, `json: cannot unmarshal ${kindOf(value)} into Go value of type ${struct}`)
    }
    for (const [name, field] of Object.entries(value))
      this.#values.set(name.toLowerCase(), field ?? undefined)
  }

  raw(name: string): unknown {
    return this.#values.get(name)
  }

  text(name: string): string {
    return this.#typed(name, 'string', (value): value is string => typeof value === 'string') ?? ''
  }

  flag(name: string): boolean | undefined {
    return this.#typed(name, 'bool', (value): value is boolean => typeof value === 'boolean')
  }

  number(name: string): number | undefined {
    return this.#typed(name, 'int', (value): value is number => typeof value === 'number')
  }

  list(name: string): readonly unknown[] {
    return this.#typed(name, 'slice', (value): value is unknown[] => Array.isArray(value)) ?? []
  }

  record(name: string): Readonly<Record<string, unknown>> {
    return this.#typed(name, 'map[string]interface {}', isRecord) ?? {}
  }

  #typed<T>(name: string, type: string, fits: (value: unknown) => value is T): T | undefined {
    const value = this.#values.get(name)
    if (value === undefined || fits(value)) return value
    throw new Refusal(
      400,
      `json: cannot unmarshal ${kindOf(value)} into Go struct field ${this.#struct}.${name} of type ${type}`,
    )
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'array'
  return typeof value === 'boolean' ? 'bool' : typeof value
}

/** A JSON string as Go writes it. */
export function goString(text: string): string {
  return goJson(text)
}

/** JSON as Go writes it: in strings, the only place they occur, `<`, `>`, `&` and the two line separators are escaped. */
export function goJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
