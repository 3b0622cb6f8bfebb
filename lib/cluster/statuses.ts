import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import {
  type InventoryModel,
  type NodeSpec,
  type NodeStatus,
  nodeHealths,
  probeFaults,
} from '../fleet/node.ts'
import type { Entry } from '../store/store.ts'
import { isPossibleFence } from './records.ts'

/** What a leader saw of a node: a status before it is signed with the fence, and given a weight and what was learned. */
export type Observation = Omit<NodeStatus, 'fence' | 'weight' | 'learned'>

/** The fence of a status that this instance made of what it saw by itself. */
export const ownFence = '0'

/** By the observation, so that one that did not change makes the same status again. */
const ownStatuses = new WeakMap<Observation, NodeStatus>()

/** The status that this instance goes by where it saw the node itself. */
export function ownStatus(seen: Observation, spec: NodeSpec): NodeStatus {
  const { weight } = spec
  const known = ownStatuses.get(seen)
  if (known?.weight === weight) return known
  const status = { ...seen, fence: ownFence, weight }
  ownStatuses.set(seen, status)
  return status
}

/** A node's status as read from the store, with what is needed to judge the next one. */
export interface Sighting {
  readonly created: bigint
  readonly modified: bigint
  /** What the stored text says; null when it cannot be read. */
  readonly stored: NodeStatus | null
  /** The newest acceptable status; null while there was none. */
  readonly status: NodeStatus | null
}

const details = z.record(z.string(), z.unknown())

export const statusSchema = z.object({
  fence: z.string().regex(/^\d{1,20}$/),
  health: z.enum(nodeHealths),
  reason: z.string(),
  fault: z.enum(probeFaults).exactOptional(),
  since: z.string(),
  version: z.string(),
  models: z.array(
    z.object({
      name: z.string(),
      shown: z.string().exactOptional(),
      digest: z.string(),
      size: z.number(),
      modified_at: z.string(),
      details,
      capabilities: z.array(z.string()).exactOptional(),
    }),
  ),
  loaded: z.array(
    z.object({
      name: z.string(),
      shown: z.string().exactOptional(),
      digest: z.string(),
      size: z.number(),
      size_vram: z.number(),
      context_length: z.number(),
      expires_at: z.string(),
      details,
    }),
  ),
  weight: z.number().min(0),
  learned: z.unknown().exactOptional(),
})

/**
 * The statuses the leader wrote, by node name. A node's status is dropped in favour of the one before when its fence is
 * lower, which means a former leader wrote it late, or when it cannot be read, or has a fence that none can have yet. A key that was deleted and made again
 * starts a new history.
 */
export function readStatuses(
  entries: ReadonlyMap<string, Entry>,
  previous: ReadonlyMap<string, Sighting>,
): ReadonlyMap<string, Sighting> {
  return new Map([...entries].map(([name, entry]) => [name, readStatus(entry, previous.get(name))]))
}

/** `readStatuses` for one node. */
export function readStatus(entry: Entry, previous: Sighting | undefined): Sighting {
  const { created, modified } = entry
  const before = previous?.created === created ? previous : null
  if (before?.modified === modified) return before
  const stored = statusIn(entry)
  const accepted = before?.status ?? null
  const isOutdated = stored !== null && accepted !== null && BigInt(stored.fence) < BigInt(accepted.fence)
  return { created, modified, stored, status: stored === null || isOutdated ? accepted : stored }
}

/** By the entry that said it: an entry never changes. */
const known = new WeakMap<Entry, NodeStatus>()

/** What a stored status says, read once for each entry; null when no leader can have written it. */
export function statusIn(entry: Entry): NodeStatus | null {
  const before = known.get(entry)
  if (before) return before
  const status = parse(entry.value)
  if (status === null || !isPossibleFence(status.fence, entry)) return null
  const shared = shareModels(status)
  known.set(entry, shared)
  return shared
}

/** Why no leader can have written a status, in one sentence; null when one did. */
export function refusalOf(entry: Entry): string | null {
  if (statusIn(entry)) return null
  const fence = parse(entry.value)?.fence
  return fence === undefined
    ? 'it cannot be read'
    : `its fence ${fence} is above its own revision ${entry.modified}: no leader has had that yet`
}

/** Models that were met, by digest. */
const met = new Map<string, InventoryModel>()
const maxMet = 10_000

/** A thousand nodes have much the same models: what is equal is kept once, which spares memory and the garbage collector. */
function shareModels(status: NodeStatus): NodeStatus {
  return { ...status, models: status.models.map(share) }
}

function share(model: InventoryModel): InventoryModel {
  const before = met.get(model.digest)
  if (!before || !isDeepStrictEqual(before.details, model.details)) {
    if (met.size >= maxMet) met.clear()
    met.set(model.digest, model)
    return model
  }
  if (isDeepStrictEqual(before, model)) return before
  return { ...model, digest: before.digest, details: before.details }
}

function parse(text: string): NodeStatus | null {
  try {
    return statusSchema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null // whoever wrote that was no leader
  }
}

/** Whether two statuses say the same, under the same term. What was learned is the same when it is the same object. */
export function sameStatus(a: NodeStatus, b: NodeStatus): boolean {
  return a.fence === b.fence && a.weight === b.weight && a.learned === b.learned && sameObservation(a, b)
}

/** Whether two observations say the same: `expires_at` moves with each probe, and details follow from the digest. */
export function sameObservation(a: Observation, b: Observation): boolean {
  return (
    a.health === b.health &&
    a.reason === b.reason &&
    a.fault === b.fault &&
    a.since === b.since &&
    a.version === b.version &&
    sameList(a.models, b.models, ['name', 'digest', 'size', 'modified_at']) &&
    sameList(a.loaded, b.loaded, ['name', 'digest', 'size', 'size_vram', 'context_length'])
  )
}

function sameList<T extends object>(a: readonly T[], b: readonly T[], fields: readonly (keyof T)[]): boolean {
  if (a === b) return true
  return (
    a.length === b.length &&
    a.every((item, index) => fields.every((field) => item[field] === b[index]?.[field]))
  )
}
