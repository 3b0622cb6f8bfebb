import { type Contents, type DocumentFault, maxDepth, refusal } from './contents.ts'
import { hasCommas, locateJson, parseJson } from './json-document.ts'
import { readYaml } from './yaml-document.ts'

/** etcd refuses 1.5 MiB, and no honest document is nearly this long. */
const maxDocumentBytes = 256 * 1024
/** Fields and items of a whole document, each alias counted as what it stands for. */
const maxValues = 10_000
/** Fields of one map, or items of one list. */
const maxEntries = 1000

/**
 * Reads the text of a document: YAML 1.2 core, of which JSON is a subset. Never throws. Invariant: any text takes at most
 * some 10 ms of CPU, since the event loop waits for it; what would take longer is refused before or while it is read.
 */
export function readText(text: string): Contents | readonly DocumentFault[] {
  const excessive = refusedUnread(text)
  if (excessive !== null) return excessive
  const json = parseJson(text)
  if (json === undefined) return checked(readYaml(text))
  const reason = excess(json)
  return reason === null ? locateJson(text, json) : refusal(reason)
}

/** The fault of a text that is too large to be read; null when it is not. Any client of etcd may store 1.5 MiB. */
export function refusedUnread(text: string): readonly DocumentFault[] | null {
  const bytes = Buffer.byteLength(text)
  if (bytes > maxDocumentBytes) return refusal(`is ${bytes} bytes long; the limit is ${maxDocumentBytes}`)
  // JSON.parse takes as long for 20,000 fields as the rest of the reading.
  return hasCommas(text, maxValues) ? refusal(tooMany(maxValues)) : null
}

function checked(contents: Contents | readonly DocumentFault[]): Contents | readonly DocumentFault[] {
  if (!('value' in contents)) return contents
  if (contents.value === null) return refusal('is empty')
  const reason = excess(contents.value)
  return reason === null ? contents : refusal(reason)
}

/** Which limit a value exceeds, of a document or of what is to become a part of one; null when none. */
export function excess(value: unknown, { values = maxValues, levels = maxDepth } = {}): string | null {
  let left = values
  const visit = (each: unknown, level: number): string | null => {
    if (--left < 0) return tooMany(values)
    if (typeof each !== 'object' || each === null) return null
    // An alias may stand for a value that contains it.
    if (level >= levels) return `is nested deeper than ${levels} levels`
    const entries = Object.values(each)
    if (entries.length > maxEntries) return `has a map or list with more than ${maxEntries} entries`
    for (const entry of entries) {
      const reason = visit(entry, level + 1)
      if (reason !== null) return reason
    }
    return null
  }
  return visit(value, 0)
}

function tooMany(values: number): string {
  return `has more than ${values} fields and items`
}
