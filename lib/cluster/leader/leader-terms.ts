import type { InstanceRecord, Term } from '../../fleet/instance.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry, Operation } from '../../store/store.ts'
import { entriesIn, readInstances, readTerms } from '../records.ts'

/** Terms kept in `R/history/`. */
const maxTerms = 100

interface TermFacts {
  readonly keys: KeyLayout
  readonly fence: bigint
  readonly instance: string
  /** ISO date. */
  readonly since: string
  /** Everything in the store. */
  readonly entries: ReadonlyMap<string, Entry>
}

/** The writes that add this term to `R/history/`, end the one before, and delete all but the last hundred. */
export function planTerms({ keys, fence, instance, since, entries }: TermFacts): Operation[] {
  const terms = readTerms(entriesIn('history', entries.values(), keys))
  const operations: Operation[] = []
  const put = (at: bigint, term: Term) =>
    operations.push({ type: 'put', key: keys.term(at), value: JSON.stringify(term) })
  if (!terms.has(fence)) put(fence, { instance, since, until: null, why: null })
  const others = [...terms].filter(([other]) => other !== fence)
  const [before, former] = others.find(([other]) => other < fence) ?? []
  if (before !== undefined && former?.until === null) {
    const instances = readInstances(entriesIn('instances', entries.values(), keys))
    const why =
      former.instance === instance ? null : endOf(instances.find(({ id }) => id === former.instance))
    put(before, { ...former, until: since, why })
  }
  for (const [other] of others.slice(maxTerms - 1)) operations.push({ type: 'delete', key: keys.term(other) })
  return operations
}

/** Why a term ended, by the record of its leader when another instance leads. */
function endOf(record: InstanceRecord | undefined): string {
  if (record === undefined) return 'it stopped, or its lease expired'
  if (record.successor !== null) return 'it handed leadership over'
  if (record.draining) return 'it was draining'
  // Its record is outdated: the instance crashed, hangs or is partitioned.
  return record.role === 'leader' ? 'its lease expired: it crashed, hangs or is cut off' : 'it stepped down'
}
