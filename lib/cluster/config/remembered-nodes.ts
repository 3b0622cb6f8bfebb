import { z } from 'zod'
import { readDocument } from '../../fleet/documents/document.ts'
import {
  type InventoryModel,
  type NodeDeparture,
  type NodeSpec,
  type NodeView,
  nodeSchema,
} from '../../fleet/node.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry, Operation } from '../../store/store.ts'
import { statusSchema } from '../probing/stored-status.ts'
import { entriesIn, isPossibleFence } from '../records.ts'
import { inForce, type StoredDocuments } from './stored-documents.ts'

export const memorySchema = z.object({
  /** The fence of the leader that wrote it. */
  fence: statusSchema.shape.fence,
  /** The node's last document. */
  document: z.string(),
  version: z.string().default(''),
  /** Models on disk when the node departed; empty while it is registered. */
  models: statusSchema.shape.models.default([]),
  departed: z.object({ since: z.iso.datetime(), reason: z.string() }).nullable(),
})

/**
 * `R/state/remembered/<name>`: a node that an agent registered. The agent's own document ends with its lease. This record
 * stays, so that the node of a host that died is still known after restarts of the leader and of every instance.
 */
export type RememberedRecord = Readonly<Omit<z.output<typeof memorySchema>, 'models' | 'departed'>> & {
  readonly models: readonly InventoryModel[]
  readonly departed: NodeDeparture | null
}

/** A record with its document parsed. */
export interface RememberedNode extends RememberedRecord {
  readonly spec: NodeSpec
}

/** Cache by entry: entries are replaced, never changed. */
const known = new WeakMap<Entry, RememberedNode | null>()

/** The records that can be read, by node. A record with a fence above its own revision was not written by a leader. */
export function readRemembered(entries: ReadonlyMap<string, Entry>): Map<string, RememberedNode> {
  return new Map(
    [...entries].flatMap(([name, entry]) => {
      const before = known.get(entry)
      const memory = before === undefined ? parse(entry) : before
      known.set(entry, memory)
      return memory ? [[name, memory] as const] : []
    }),
  )
}

function parse(entry: Entry): RememberedNode | null {
  try {
    const memory = memorySchema.safeParse(JSON.parse(entry.value)).data
    return memory && isPossibleFence(memory.fence, entry) ? rememberedIn(memory) : null
  } catch {
    return null // not JSON
  }
}

/** A record with its document parsed; null when this version of llamero cannot read the document. */
export function rememberedIn(memory: RememberedRecord): RememberedNode | null {
  const parsed = readDocument(memory.document, nodeSchema)
  return parsed.ok ? { ...memory, spec: parsed.value } : null
}

/** Milliseconds for which a departed node is remembered, and how many are remembered; the oldest is forgotten first. */
const keptMs = 24 * 3_600_000
const maxKept = 256

interface Known {
  readonly keys: KeyLayout
  readonly fence: bigint
  readonly documents: StoredDocuments
  /** The nodes of the snapshot: they say which nodes have departed, since when and why. */
  readonly nodes: ReadonlyMap<string, NodeView>
  /** Everything in the store. */
  readonly entries: ReadonlyMap<string, Entry>
  readonly now: Date
}

/**
 * The writes that bring `R/state/remembered/` up to date: which nodes agents have registered, and which have departed.
 */
export function planRemembered({ keys, fence, documents, nodes, entries, now }: Known): Operation[] {
  const stored = entriesIn('state/remembered', entries.values(), keys)
  const memories = readRemembered(stored)
  const operations: Operation[] = []
  const put = (name: string, memory: Omit<RememberedRecord, 'fence'>) =>
    operations.push({
      type: 'put',
      key: keys.remembered(name),
      value: JSON.stringify({ fence: String(fence), ...memory }),
    })
  for (const [name, { isLeased, active }] of documents.nodes) {
    if (!isLeased || !active) continue
    const memory = memories.get(name)
    if (memory?.document !== active.text || memory.departed !== null)
      put(name, { document: active.text, version: '', models: [], departed: null })
  }
  const forgotten = forgottenOf(memories, documents, now)
  for (const name of stored.keys())
    if (!memories.has(name) || forgotten.has(name))
      operations.push({ type: 'delete', key: keys.remembered(name) })
  for (const [name, { document, departed }] of memories) {
    const node = nodes.get(name)
    if (departed !== null || forgotten.has(name) || !node?.departed || !node.status) continue
    const { version, models } = node.status
    put(name, { document, version, models, departed: node.departed })
  }
  return operations
}

/**
 * The records to delete: of nodes that an operator registers now, that are back under another name, or that departed long
 * ago.
 */
function forgottenOf(
  memories: ReadonlyMap<string, RememberedNode>,
  documents: StoredDocuments,
  now: Date,
): Set<string> {
  const urls = new Set([...inForce(documents.nodes).values()].map(({ url }) => url))
  const absent = [...memories].filter(([name]) => !documents.nodes.has(name))
  const latestFirst = absent.toSorted(([, a], [, b]) => ageMs(a, now) - ageMs(b, now))
  const isForgotten = (memory: RememberedNode, nth: number) =>
    urls.has(memory.spec.url) || ageMs(memory, now) >= keptMs || nth >= maxKept
  const gone = latestFirst.filter(([, memory], nth) => isForgotten(memory, nth)).map(([name]) => name)
  const taken = [...memories.keys()].filter((name) => documents.nodes.get(name)?.isLeased === false)
  return new Set([...gone, ...taken])
}

function ageMs({ departed }: RememberedRecord, now: Date): number {
  return departed === null ? 0 : now.getTime() - Date.parse(departed.since)
}
