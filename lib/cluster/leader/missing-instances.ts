import type { RememberedInstance } from '../../fleet/instance.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry, Operation } from '../../store/store.ts'
import { entriesIn, readInstances, readRememberedInstance, rememberedText } from '../records.ts'

/** Milliseconds for which an instance that ended is remembered, and how many are; the oldest is forgotten first. */
const keptMs = 24 * 3_600_000
const maxKept = 256

interface Known {
  readonly keys: KeyLayout
  /** Everything in the store. */
  readonly entries: ReadonlyMap<string, Entry>
  readonly now: Date
}

/**
 * The writes that bring `R/state/instances/` up to date: which instances are registered, and which of them ended. An
 * instance that stops says so itself before its lease ends.
 */
export function planMissing({ keys, entries, now }: Known): Operation[] {
  const operations: Operation[] = []
  const put = (id: string, value: string) =>
    operations.push({ type: 'put', key: keys.rememberedInstance(id), value })
  const stored = entriesIn('state/instances', entries.values(), keys)
  const registered = new Map(
    readInstances(entriesIn('instances', entries.values(), keys)).map((record) => [record.id, record]),
  )
  for (const [id, record] of registered) {
    const entry = stored.get(id)
    const known = entry ? readRememberedInstance(entry) : null
    // A process that has just said that it stops is registered for a moment still.
    if (known?.boot !== record.boot || known.ended?.how === 'lost') put(id, rememberedText(record, null))
  }
  const ended: { readonly id: string; readonly since: number }[] = []
  for (const [id, entry] of stored) {
    if (registered.has(id)) continue
    const known = readRememberedInstance(entry)
    if (known?.ended === null) put(id, rememberedText(known, { since: now.toISOString(), how: 'lost' }))
    else ended.push({ id, since: sinceOf(known) })
  }
  const latestFirst = ended.toSorted((a, b) => b.since - a.since)
  const old = latestFirst.filter(({ since }, nth) => now.getTime() - since >= keptMs || nth >= maxKept)
  for (const { id } of old) operations.push({ type: 'delete', key: keys.rememberedInstance(id) })
  return operations
}

/** Milliseconds of Unix time; a record that cannot be read is as old as can be. */
function sinceOf(known: RememberedInstance | null): number {
  return known?.ended ? Date.parse(known.ended.since) : Number.NEGATIVE_INFINITY
}
