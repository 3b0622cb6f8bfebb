import { z } from 'zod'
import { readDocument } from '../fleet/document.ts'
import {
  type Departure,
  type InventoryModel,
  type NodeSpec,
  type NodeView,
  nodeSchema,
} from '../fleet/node.ts'
import type { Keys } from '../store/keys.ts'
import type { Entry, Operation } from '../store/store.ts'
import { inForce, type Objects } from './objects.ts'
import { entriesIn, isPossibleFence } from './records.ts'
import { statusSchema } from './statuses.ts'

export const memorySchema = z.object({
  /** The term of the leader that wrote it. */
  fence: statusSchema.shape.fence,
  /** The node's last document. */
  document: z.string(),
  version: z.string().default(''),
  /** What it had on disk when it departed; empty while it is registered. */
  models: statusSchema.shape.models.default([]),
  departed: z.object({ since: z.iso.datetime(), reason: z.string() }).nullable(),
})

/**
 * `R/state/remembered/<name>`: a node that an agent registered. The agent's own document ends with its lease; this record
 * stays, so that a host that dies leaves a trace that outlives it, the leader and every instance.
 */
export type Memory = Readonly<Omit<z.output<typeof memorySchema>, 'models' | 'departed'>> & {
  readonly models: readonly InventoryModel[]
  readonly departed: Departure | null
}

/** A memory, and what its document says. */
export interface Remembered extends Memory {
  readonly spec: NodeSpec
}

/** By the entry that said it: an entry never changes. */
const known = new WeakMap<Entry, Remembered | null>()

/** The memories that can be read, by node. No leader can have signed one with a fence above the key's own revision. */
export function readRemembered(entries: ReadonlyMap<string, Entry>): Map<string, Remembered> {
  return new Map(
    [...entries].flatMap(([name, entry]) => {
      const before = known.get(entry)
      const memory = before === undefined ? parse(entry) : before
      known.set(entry, memory)
      return memory ? [[name, memory] as const] : []
    }),
  )
}

function parse(entry: Entry): Remembered | null {
  try {
    const memory = memorySchema.safeParse(JSON.parse(entry.value)).data
    return memory && isPossibleFence(memory.fence, entry) ? rememberedIn(memory) : null
  } catch {
    return null // not JSON
  }
}

/** A memory with its document read; null when no version of llamero can read that. */
export function rememberedIn(memory: Memory): Remembered | null {
  const parsed = readDocument(memory.document, nodeSchema)
  return parsed.ok ? { ...memory, spec: parsed.value } : null
}

/** A departed node is forgotten after this many milliseconds, and the oldest first when there are more than this many. */
const keptMs = 24 * 3_600_000
const maxKept = 256

interface Known {
  readonly keys: Keys
  readonly fence: bigint
  readonly objects: Objects
  /** Of the snapshot in force: it says which nodes have departed, since when and why. */
  readonly nodes: ReadonlyMap<string, NodeView>
  /** Everything in the store. */
  readonly entries: ReadonlyMap<string, Entry>
  readonly now: Date
}

/** The writes that make `R/state/remembered/` say which nodes agents have registered, and which of them have departed. */
export function planRemembered({ keys, fence, objects, nodes, entries, now }: Known): Operation[] {
  const stored = entriesIn('state/remembered', entries.values(), keys)
  const memories = readRemembered(stored)
  const operations: Operation[] = []
  const put = (name: string, memory: Omit<Memory, 'fence'>) =>
    operations.push({
      type: 'put',
      key: keys.remembered(name),
      value: JSON.stringify({ fence: String(fence), ...memory }),
    })
  for (const [name, { isLeased, active }] of objects.nodes) {
    if (!isLeased || !active) continue
    const memory = memories.get(name)
    if (memory?.document !== active.text || memory.departed !== null)
      put(name, { document: active.text, version: '', models: [], departed: null })
  }
  const forgotten = forgottenOf(memories, objects, now)
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

/** The memories not to keep: of nodes that an operator registers now, that are back under another name, or long gone. */
function forgottenOf(memories: ReadonlyMap<string, Remembered>, objects: Objects, now: Date): Set<string> {
  const urls = new Set([...inForce(objects.nodes).values()].map(({ url }) => url))
  const absent = [...memories].filter(([name]) => !objects.nodes.has(name))
  const latestFirst = absent.toSorted(([, a], [, b]) => ageMs(a, now) - ageMs(b, now))
  const isForgotten = (memory: Remembered, nth: number) =>
    urls.has(memory.spec.url) || ageMs(memory, now) >= keptMs || nth >= maxKept
  const gone = latestFirst.filter(([, memory], nth) => isForgotten(memory, nth)).map(([name]) => name)
  const taken = [...memories.keys()].filter((name) => objects.nodes.get(name)?.isLeased === false)
  return new Set([...gone, ...taken])
}

function ageMs({ departed }: Memory, now: Date): number {
  return departed === null ? 0 : now.getTime() - Date.parse(departed.since)
}
