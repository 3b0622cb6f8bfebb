import { type Contents, type DocumentFault, limitFaults, lineAt } from './contents.ts'

/** Where a value's text begins, and where the values within it do. */
interface Place {
  readonly offset: number
  readonly fields: Map<string, Place>
}

interface Duplicate {
  readonly path: string
  readonly offset: number
}

/** The value of a document that is a JSON object, by the engine's own parser; undefined when it is none. */
export function parseJson(text: string): unknown {
  if (!/^\s*\{/.test(text)) return undefined
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
    for (const step of path) place = place?.fields.get(String(step))
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
  readonly root: Place = { offset: 0, fields: new Map() }
  readonly duplicates: Duplicate[] = []
  readonly #open: Open[] = []

  constructor(text: string) {
    for (const { 0: token, 1: colon, index } of text.matchAll(tokens)) {
      if (token === '}' || token === ']') this.#open.pop()
      else if (colon !== undefined) this.#key(JSON.parse(token.slice(0, -colon.length)), index)
      else this.#value(token, index)
    }
  }

  #key(name: string, offset: number): void {
    const holder = this.#open.at(-1)
    if (!holder) return
    holder.field = name
    if (holder.place.fields.has(name))
      this.duplicates.push({ path: this.#open.map(stepOf).join('.'), offset })
  }

  #value(token: string, offset: number): void {
    const holder = this.#open.at(-1)
    const place = holder ? { offset, fields: new Map<string, Place>() } : this.root
    holder?.place.fields.set(stepOf(holder), place)
    if (token === '{' || token === '[') this.#open.push({ place, isList: token === '[', field: '', index: 0 })
    if (holder?.isList) holder.index++
  }
}

/** Brackets, keys with their colon, other strings, and words and numbers. */
const tokens = /[{}[\]]|"(?:[^"\\]|\\.)*"(\s*:)?|[^\s{}[\]",:]+/g

function stepOf({ isList, field, index }: Open): string {
  return isList ? String(index) : field
}
