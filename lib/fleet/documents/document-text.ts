import { type Contents, type DocumentFault, maxDepth, refusal } from './contents.ts'
import { locateJson, parseJson } from './json-document.ts'
import { readYaml } from './yaml-document.ts'

/** etcd refuses 1.5 MiB, and no honest document is nearly this long. */
const maxDocumentBytes = 256 * 1024
/** Fields and items of a whole document, each alias counted as what it stands for. */
const maxValues = 10_000
/** Fields of one map, or items of one list. */
const maxEntries = 1000

/**
 * Reads the text of a document: YAML 1.2 core, of which JSON is a subset. Never throws. Invariant: any text takes at most
 * some 15 ms of CPU, since the event loop waits for it; what would take longer is refused while it is read.
 */
export function readText(text: string): Contents | readonly DocumentFault[] {
  const bytes = Buffer.byteLength(text)
  if (bytes > maxDocumentBytes) return refusal(`is ${bytes} bytes long; the limit is ${maxDocumentBytes}`)
  const json = parseJson(text)
  if (json === undefined) return checked(readYaml(text))
  const reason = excess(json)
  return reason === null ? locateJson(text, json) : refusal(reason)
}

function checked(contents: Contents | readonly DocumentFault[]): Contents | readonly DocumentFault[] {
  if (!('value' in contents)) return contents
  if (contents.value === null) return refusal('is empty')
  const reason = excess(contents.value)
  return reason === null ? contents : refusal(reason)
}

/** Which limit a value exceeds; null when none. */
function excess(value: unknown): string | null {
  let left = maxValues
  const visit = (each: unknown, depth: number): string | null => {
    if (--left < 0) return `has more than ${maxValues} fields and items`
    if (typeof each !== 'object' || each === null) return null
    // An alias may stand for a value that contains it.
    if (depth > maxDepth) return `is nested deeper than ${maxDepth}`
    const entries = Object.values(each)
    if (entries.length > maxEntries) return `has a map or list with more than ${maxEntries} entries`
    for (const entry of entries) {
      const reason = visit(entry, depth + 1)
      if (reason !== null) return reason
    }
    return null
  }
  return visit(value, 0)
}
