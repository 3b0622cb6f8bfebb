import { type Contents, type DocumentFault, limitFaults, lineAt } from './contents.ts'

const beginsAsObject = /^\s*\{/
const quote = 0x22
const backslash = 0x5c
const comma = 0x2c

/** Where a value's text begins, and where the values within it do: of an object or list only, since a map costs much. */
interface Place {
  readonly offset: number
  readonly fields: Map<string, Place> | null
}

interface Duplicate {
  readonly path: string
  readonly offset: number
}

/**
 * Whether a text that begins as a JSON object has at least so many commas between its values. In YAML's flow style as well,
 * each of them ends a value.
 */
export function hasCommas(text: string, count: number): boolean {
  if (!beginsAsObject.test(text)) return false
  let left = count
  let isQuoted = false
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === quote) isQuoted = !isQuoted
    else if (isQuoted && code === backslash) at++
    else if (!isQuoted && code === comma && --left === 0) return true
  }
  return false
}

/** The value of a document that is a JSON object, by the engine's own parser; undefined when it is none. */
export function parseJson(text: string): unknown {
  if (!beginsAsObject.test(text)) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined // it may be YAML; if not, the YAML reader names the place of the fault
  }
}

/** The contents of a JSON document with the value `value`, or its faults: JSON.parse takes the last of equal keys. */
export function locateJson(text: string, value: unknown): Contents | readonly DocumentFault[] {
  const { root, duplicates } = new Places(text)
  if (duplicates.length > 0)
    return limitFaults(duplicates, ({ path, offset }) => ({
      path,
      line: lineAt(text, offset),
      message: 'occurs twice',
    }))
  const lineOf: Contents['lineOf'] = (path) => {
    let place: Place | undefined = root
    for (const step of path) place = place?.fields?.get(String(step))
    return place ? lineAt(text, place.offset) : null
  }
  return { value, lineOf }
}

/** An object or list that is open, and the field or index that comes next in it. */
interface Open {
  readonly place: Place
  readonly isList: boolean
  field: string
  index: number
}

/** Where things stand in JSON that is known to be valid, which is why one pass over a few kinds of token tells it. */
class Places {
  root: Place = { offset: 0, fields: null }
  readonly duplicates: Duplicate[] = []
  readonly #open: Open[] = []

  constructor(text: string) {
    for (const { 0: token, 1: colon, index } of text.matchAll(tokens)) {
      if (token === '}' || token === ']') this.#open.pop()
      else if (colon !== undefined) this.#key(nameIn(token.slice(0, -colon.length)), index)
      else this.#value(token, index)
    }
  }

  #key(name: string, offset: number): void {
    const holder = this.#open.at(-1)
    if (!holder) return
    holder.field = name
    if (holder.place.fields?.has(name))
      this.duplicates.push({ path: this.#open.map(stepOf).join('.'), offset })
  }

  #value(token: string, offset: number): void {
    const holder = this.#open.at(-1)
    const isOpen = token === '{' || token === '['
    const place = { offset, fields: isOpen ? new Map<string, Place>() : null }
    if (holder) holder.place.fields?.set(stepOf(holder), place)
    else this.root = place
    if (isOpen) this.#open.push({ place, isList: token === '[', field: '', index: 0 })
    if (holder?.isList) holder.index++
  }
}

/** Brackets, keys with their colon, other strings, and words and numbers. */
const tokens = /[{}[\]]|"(?:[^"\\]|\\.)*"(\s*:)?|[^\s{}[\]",:]+/g

function nameIn(quoted: string): string {
  return quoted.includes('\\') ? JSON.parse(quoted) : quoted.slice(1, -1)
}

function stepOf({ isList, field, index }: Open): string {
  return isList ? String(index) : field
}
