import type { DocumentFault } from '../../fleet/documents/contents.ts'
import { isStoreName } from '../../fleet/documents/names.ts'
import { didYouMean } from '../../shared/did-you-mean.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry } from '../../store/store.ts'

/** Unknown keys that get a verdict each: the first in their order, so that all instances choose the same. */
const maxTold = 20

/** First parts of keys that instances write. Unknown keys below them may be from a newer version of llamero. */
const ours: ReadonlySet<string> = new Set([
  'leader',
  'state',
  'meta',
  'agents',
  'jobs',
  'instances',
  'load',
  'history',
  'status',
])

/** What operators may write, by the first part of the key. */
const layout: ReadonlyMap<string, string> = new Map([
  ['config', 'config'],
  ['nodes', 'nodes/NAME'],
  ['routes', 'routes/NAME'],
  ['keys', 'keys/ID'],
])

/** Whether no instance reads a key under the prefix: a slip made with etcdctl. */
export function isUnknownKey(key: string, keys: KeyLayout): boolean {
  if (keys.parse(key) !== null || !key.startsWith(keys.root)) return false
  return !ours.has(firstPart(key.slice(keys.root.length)))
}

/** A key that no instance reads, and the faults of its verdict. */
interface UnknownKey {
  /** The key without the prefix. */
  readonly path: string
  readonly entry: Entry
  readonly faults: readonly DocumentFault[]
}

/**
 * The first unknown keys, in their order; the last one says how many more there are. Keys under a lease belong to
 * processes.
 */
export function unknownKeysIn(entries: readonly Entry[], keys: KeyLayout): UnknownKey[] {
  const told: Entry[] = []
  let untold = 0
  for (const entry of entries) {
    if (entry.lease !== null || !isUnknownKey(entry.key, keys)) continue
    const at = told.findIndex(({ key }) => entry.key < key)
    told.splice(at < 0 ? told.length : at, 0, entry)
    if (told.length > maxTold) untold += told.splice(maxTold).length
  }
  const more: DocumentFault[] = untold === 0 ? [] : [fault(`${untold} more keys are not read either`)]
  return told.map((entry, at) => {
    const path = entry.key.slice(keys.root.length)
    return { path, entry, faults: [unread(path), ...(at === told.length - 1 ? more : [])] }
  })
}

/** A hint at the path that may have been meant. */
export function pathHint(path: string): string {
  const read = `llamero reads ${[...layout.values()].join(', ')}`
  const meant = meantBy(path)
  return meant === null ? read : `did you mean "${meant}"? ${read}`
}

function meantBy(path: string): string | null {
  const [first = '', ...rest] = path.split('/').filter((part) => part !== '')
  const kinds = [...layout.keys()]
  const word = first.toLowerCase()
  const kind = didYouMean(word, kinds) ?? kinds.find((each) => word.startsWith(each.replace(/s$/, '')))
  if (!kind) return null
  const name = rest.join('-')
  return kind === 'config' || !isStoreName(name) ? (layout.get(kind) ?? null) : `${kind}/${name}`
}

function unread(path: string): DocumentFault {
  return { ...fault('is not a key that llamero reads'), hint: pathHint(path) }
}

function fault(message: string): DocumentFault {
  return { path: '', line: null, message }
}

function firstPart(path: string): string {
  const end = path.indexOf('/')
  return end < 0 ? path : path.slice(0, end)
}
