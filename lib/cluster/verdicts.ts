import { isDeepStrictEqual } from 'node:util'
import type { Keys } from '../store/keys.ts'
import type { Entry, Operation } from '../store/store.ts'
import { allObjects, isOperatorFolder, type Objects, verdictOf } from './objects.ts'

interface View {
  readonly keys: Keys
  readonly fence: bigint
  readonly objects: Objects
  /** What more the operator should know of a document, by its key. */
  readonly notes: ReadonlyMap<string, string>
  /** Everything in the store. */
  readonly entries: ReadonlyMap<string, Entry>
}

/** The writes that make `R/status/` tell the truth: new and changed verdicts, and none on documents that are gone. */
export function planVerdicts({ keys, fence, objects, notes, entries }: View): Operation[] {
  const operations: Operation[] = []
  const judged = new Set<string>()
  for (const object of allObjects(objects)) {
    const key = keys.verdict(object.key)
    judged.add(key)
    const note = notes.get(object.key)
    const verdict = verdictOf(note ? { ...object, warnings: [...object.warnings, note] } : object)
    if (says(entries.get(key), verdict)) continue
    operations.push({ type: 'put', key, value: JSON.stringify({ fence: String(fence), ...verdict }) })
  }
  for (const key of entries.keys())
    if (isVerdict(keys, key) && !judged.has(key)) operations.push({ type: 'delete', key })
  return operations
}

/** Whether a stored verdict says this already; which leader said it does not matter. */
function says(entry: Entry | undefined, verdict: object): boolean {
  if (!entry) return false
  try {
    const { fence: _, ...stored } = JSON.parse(entry.value)
    return isDeepStrictEqual(stored, JSON.parse(JSON.stringify(verdict)))
  } catch {
    return false // not a verdict: it is written anew
  }
}

function isVerdict(keys: Keys, key: string): boolean {
  const place = keys.parse(key)
  const subject = place?.folder === 'status' ? keys.parse(keys.root + place.name) : null
  return subject !== null && isOperatorFolder(subject.folder)
}
