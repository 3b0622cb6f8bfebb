import type { Entry } from '../store.ts'
import type { StoreStep } from './step-draft.ts'

/** A step as the journal keeps it. Revisions are decimal strings: JSON's numbers end at 53 bits. */
interface Stored {
  readonly revision: string
  readonly put: readonly (readonly [key: string, value: string, created: string, modified: string])[]
  readonly delete: readonly string[]
}

/** An entry under a lease is void after a restart: for the file, putting it deletes the key. */
export function encode({ revision, changes }: StoreStep): Buffer {
  const put: Stored['put'][number][] = []
  const gone: string[] = []
  for (const change of changes) {
    if (change.type === 'delete') gone.push(change.key)
    else if (change.entry.lease !== null) gone.push(change.entry.key)
    else {
      const { key, value, created, modified } = change.entry
      put.push([key, value, String(created), String(modified)])
    }
  }
  const stored: Stored = { revision: String(revision), put, delete: gone }
  return Buffer.from(JSON.stringify(stored))
}

/** The content that the records of a journal, applied in order, result in. */
export function decode(payloads: readonly Buffer[]): { entries: Map<string, Entry>; revision: bigint } {
  const entries = new Map<string, Entry>()
  let revision = 0n
  for (const payload of payloads) {
    const stored: Stored = JSON.parse(payload.toString())
    for (const [key, value, created, modified] of stored.put) {
      entries.set(key, { key, value, created: BigInt(created), modified: BigInt(modified), lease: null })
    }
    for (const key of stored.delete) entries.delete(key)
    revision = BigInt(stored.revision)
  }
  return { entries, revision }
}
