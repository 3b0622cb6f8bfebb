import { isDeepStrictEqual } from 'node:util'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry, Operation } from '../../store/store.ts'
import { allDocuments, isOperatorFolder, type StoredDocuments, verdictOf } from './stored-documents.ts'
import { isUnknownKey } from './unknown-keys.ts'

/** Warnings by the key of the document. */
export type Notes = ReadonlyMap<string, readonly string[]>

interface View {
  readonly keys: KeyLayout
  readonly fence: bigint
  readonly documents: StoredDocuments
  /** Further warnings. */
  readonly notes: Notes
  /** Whether `notes` is complete. Otherwise warnings in the store stay. */
  readonly areComplete: boolean
  /** Everything in the store. */
  readonly entries: ReadonlyMap<string, Entry>
}

/** The writes that bring `R/status/` up to date: new and changed verdicts are put, those on deleted documents deleted. */
export function planVerdicts({ keys, fence, documents, notes, areComplete, entries }: View): Operation[] {
  const operations: Operation[] = []
  const judged = new Set<string>()
  for (const object of allDocuments(documents)) {
    const key = keys.verdict(object.key)
    judged.add(key)
    const entry = entries.get(key)
    const kept = areComplete ? [] : warningsIn(entry, object.stored)
    const warnings = [...new Set([...object.warnings, ...(notes.get(object.key) ?? []), ...kept])]
    const verdict = verdictOf({ ...object, warnings })
    if (says(storedVerdict(entry), verdict)) continue
    operations.push({ type: 'put', key, value: JSON.stringify({ fence: String(fence), ...verdict }) })
  }
  for (const [key, entry] of entries)
    if (!judged.has(key) && isVerdict(keys, entry)) operations.push({ type: 'delete', key })
  return operations
}

/** Merges warnings, document by document. */
export function mergeNotes(...parts: readonly Notes[]): Notes {
  const merged = new Map<string, string[]>()
  for (const part of parts)
    for (const [key, notes] of part) merged.set(key, [...(merged.get(key) ?? []), ...notes])
  return merged
}

/** A verdict as it is stored; null when it cannot be read, so that it is written again. */
function storedVerdict(entry: Entry | undefined): Record<string, unknown> | null {
  try {
    const verdict: unknown = entry && JSON.parse(entry.value)
    return typeof verdict === 'object' && verdict !== null ? { ...verdict } : null
  } catch {
    return null
  }
}

/** The warnings of a stored verdict, if it judges this revision of the document. */
export function warningsIn(entry: Entry | undefined, revision: bigint): string[] {
  const verdict = storedVerdict(entry)
  const warnings = verdict?.['stored'] === String(revision) ? verdict['warnings'] : null
  return Array.isArray(warnings) ? warnings.filter((each) => typeof each === 'string') : []
}

/** Whether the stored verdict is equal, apart from its fence. */
function says(stored: Record<string, unknown> | null, verdict: object): boolean {
  if (!stored) return false
  const { fence: _, ...said } = stored
  return isDeepStrictEqual(said, JSON.parse(JSON.stringify(verdict)))
}

/** Whether an entry is a verdict: on a document of an operator, or on a key that no instance reads. */
function isVerdict(keys: KeyLayout, entry: Entry): boolean {
  const place = keys.parse(entry.key)
  if (place?.folder !== 'status') return false
  const subject = keys.root + place.name
  const known = keys.parse(subject)
  if (known !== null) return isOperatorFolder(known.folder)
  return isUnknownKey(subject, keys) && Array.isArray(storedVerdict(entry)?.['errors'])
}
