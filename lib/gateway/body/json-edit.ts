import { comma, isSpace } from '../../shared/json/json-bytes.ts'
import type { Field, Members } from './json-fields.ts'

/** A range of bytes to be replaced by ASCII text. */
export interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** Changes of an object's fields. At most one field is removed: two neighbours would share a comma. */
export interface Changes {
  readonly removed?: Field | undefined
  /** JSON texts by field name. They replace a scalar value, or are added in front of the other fields. */
  readonly set: ReadonlyMap<string, string>
}

/** The edits for `changes`; all other bytes stay as the caller wrote them. */
export function editsOf(
  bytes: Uint8Array,
  { start, count, fields }: Members,
  { removed, set }: Changes,
): Edit[] {
  const edits: Edit[] = []
  const added: string[] = []
  for (const [name, text] of set) {
    const field = fields.get(name)
    if (field) edits.push({ start: field.start, end: field.end, text })
    else added.push(`${JSON.stringify(name)}:${text}`)
  }
  const others = count - (removed ? 1 : 0)
  if (added.length > 0) {
    const text = added.join() + (others > 0 ? ',' : '')
    edits.push({ start: start + 1, end: start + 1, text })
  }
  if (removed) edits.push({ ...withComma(bytes, removed), text: '' })
  return edits
}

/** Applies edits, which may come in any order but must not overlap. */
export function applyEdits(bytes: Buffer, edits: readonly Edit[]): Buffer {
  if (edits.length === 0) return bytes
  const pieces: Buffer[] = []
  let copied = 0
  for (const { start, end, text } of edits.toSorted((a, b) => a.start - b.start)) {
    pieces.push(bytes.subarray(copied, start), Buffer.from(text))
    copied = end
  }
  return Buffer.concat([...pieces, bytes.subarray(copied)])
}

/** The range of a field and one comma: the one behind it, else the one before. */
function withComma(bytes: Uint8Array, { key, end }: Field): { start: number; end: number } {
  let behind = end
  while (isSpace[bytes[behind] ?? 0] === 1) behind++
  if (bytes[behind] === comma) return { start: key, end: behind + 1 }
  let before = key - 1
  while (isSpace[bytes[before] ?? 0] === 1) before--
  return { start: bytes[before] === comma ? before : key, end }
}
