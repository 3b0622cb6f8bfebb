import { backslash, wordAt } from '../../shared/json/json-bytes.ts'
import { ScanError } from '../../shared/json/json-walk.ts'

/** Names of fields to look for. */
export class FieldNames {
  readonly #names: readonly string[]
  /** A bit for the first letter of each name, by length with quotes. It rejects most keys. */
  readonly #letters = new Uint32Array(32)

  constructor(names: readonly string[]) {
    this.#names = names
    for (const name of names) {
      const length = name.length + 2
      this.#letters[length] = (this.#letters[length] ?? 0) | (1 << (name.charCodeAt(0) & 31))
    }
  }

  /** The name that a key spells (range with quotes). @throws ScanError when only Go would accept the spelling. */
  find(bytes: Buffer, from: number, to: number): string | undefined {
    if (!this.#mayMatch(bytes, from, to)) return undefined
    const plain = wordAt(bytes, from + 1, to - 1, this.#names)
    if (plain !== undefined) return plain
    const key = keyText(bytes, from, to)
    const name = this.#foldedName(key)
    if (name !== undefined && key !== name) throw new ScanError(`field "${key}" must be written "${name}"`)
    return name
  }

  /** The name that a key spells for Go: with escapes, and in any case. */
  findAsGo(bytes: Buffer, from: number, to: number): string | undefined {
    if (!this.#mayMatch(bytes, from, to)) return undefined
    return wordAt(bytes, from + 1, to - 1, this.#names) ?? this.#foldedName(keyText(bytes, from, to))
  }

  /** Go compares with Unicode case folding, as these two mappings do (ſ, K). */
  #foldedName(key: string): string | undefined {
    const folded = key.toUpperCase().toLowerCase()
    return this.#names.find((each) => each === folded)
  }

  /** Whether a key (range with quotes) may spell one of the names. An escape or a byte beyond ASCII may hide one. */
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

/** The longest spelling of a name: six bytes for each of at most 30 letters. */
const maxKeyBytes = 182

function keyText(bytes: Buffer, from: number, to: number): string {
  return JSON.parse(bytes.toString('utf8', from, to)) as string
}
