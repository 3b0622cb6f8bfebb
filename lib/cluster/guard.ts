import { allObjects, type Judged, type Objects } from './objects.ts'
import type { StoreUid } from './store-uid.ts'

/** Why what the store says is not put in force. */
export interface Doubt {
  /** `emptied`: perhaps the operator meant it, and time will tell; `foreign`: somebody has to say so. */
  readonly kind: 'emptied' | 'foreign'
  /** One sentence for the operator. */
  readonly reason: string
}

interface Known {
  /** Of the store that `objects` come from; null before it had one. */
  readonly uid: string | null
  readonly objects: Objects
}

interface Told {
  readonly uid: StoreUid | null
  readonly objects: Objects
}

/** Keys named in a reason. */
const maxNamed = 3

/**
 * The mass-delete guard (docs/etcd.md#mass-deletion). A store with another uid, or with none any more, was wiped or
 * swapped: it is believed once it holds every document in force, or was declared the successor. In the known store,
 * documents that all vanish together are more often a slip than a wish.
 */
export function doubtOf(known: Known, told: Told): Doubt | null {
  if (known.uid === null || told.uid?.replaces.includes(known.uid)) return null
  if (told.uid?.id === known.uid) return doubtEmpty(known.objects, told.objects)
  const before = operatorsKeys(allObjects(known.objects))
  const after = new Set(keysInForce(allObjects(told.objects)))
  const lost = before.filter((key) => !after.has(key))
  if (lost.length === 0) return null
  const what = told.uid === null ? 'the uid of the store is gone' : 'the store is another one by its uid'
  return { kind: 'foreign', reason: `${what}, and it lacks ${name(lost)} of ${before.length} documents` }
}

/** The last key of all may be revoked, and that takes effect at once: only keys in the plural are protected. */
function doubtEmpty(known: Objects, told: Objects): Doubt | null {
  const emptied = [
    { what: 'node', least: 1, before: [...known.nodes.values()], after: [...told.nodes.values()] },
    { what: 'key', least: 2, before: [...known.keys.values()], after: [...told.keys.values()] },
  ].find(
    ({ least, before, after }) => operatorsKeys(before).length >= least && keysInForce(after).length === 0,
  )
  return emptied ? { kind: 'emptied', reason: `every ${emptied.what} is gone from the store` } : null
}

function keysInForce(objects: readonly Judged<unknown>[]): string[] {
  return objects.filter(({ active }) => active !== null).map(({ key }) => key)
}

/** What an agent wrote is meant to vanish with its host. */
function operatorsKeys(objects: readonly Judged<unknown>[]): string[] {
  return keysInForce(objects.filter(({ isLeased }) => !isLeased))
}

function name(keys: readonly string[]): string {
  const named = keys.slice(0, maxNamed).join(', ')
  return `${keys.length} (${named}${keys.length > maxNamed ? ', …' : ''})`
}
