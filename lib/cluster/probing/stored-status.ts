import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import {
  type InventoryModel,
  type NodeSpec,
  type NodeStatus,
  nodeHealths,
  probeFaults,
} from '../../fleet/node.ts'
import type { Entry } from '../../store/store.ts'
import { isPossibleFence } from '../records.ts'

/** What a prober observed of a node: a status without fence, weight and learned state, which the leader adds. */
export type Observation = Omit<NodeStatus, 'fence' | 'weight' | 'learned'>

/** The fence of a status that this instance made from its own observation. */
export const ownFence = '0'

/** Cache by observation, so that the same observation makes the same status. */
const ownStatuses = new WeakMap<Observation, NodeStatus>()

/** The status of a node that this instance probed itself. */
export function ownStatus(seen: Observation, spec: NodeSpec): NodeStatus {
  const { weight } = spec
  const known = ownStatuses.get(seen)
  if (known?.weight === weight) return known
  const status = { ...seen, fence: ownFence, weight }
  ownStatuses.set(seen, status)
  return status
}

/** A node's status as read from the store, and the revisions that the next one is compared with. */
export interface StoredStatus {
  readonly created: bigint
  readonly modified: bigint
  /** The stored status; null when it cannot be read. */
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
 * The statuses in the store, by node name. The status before stays accepted when the stored one cannot be read, has a
 * lower fence (a former leader wrote it late), or a fence that no leader can have yet. A key that was deleted and created
 * again has no status before.
 */
export function readStatuses(
  entries: ReadonlyMap<string, Entry>,
  previous: ReadonlyMap<string, StoredStatus>,
): ReadonlyMap<string, StoredStatus> {
  return new Map([...entries].map(([name, entry]) => [name, readStatus(entry, previous.get(name))]))
}

/** `readStatuses` for one node. */
export function readStatus(entry: Entry, previous: StoredStatus | undefined): StoredStatus {
  const { created, modified } = entry
  const before = previous?.created === created ? previous : null
  if (before?.modified === modified) return before
  const stored = statusIn(entry)
  const accepted = before?.status ?? null
  const isOutdated = stored !== null && accepted !== null && BigInt(stored.fence) < BigInt(accepted.fence)
  return { created, modified, stored, status: stored === null || isOutdated ? accepted : stored }
}

/** Cache by entry: entries are replaced, never changed. */
const known = new WeakMap<Entry, NodeStatus>()

/** A stored status, parsed once per entry; null when no leader can have written it. */
export function statusIn(entry: Entry): NodeStatus | null {
  const before = known.get(entry)
  if (before) return before
  const status = parse(entry.value)
  if (status === null || !isPossibleFence(status.fence, entry)) return null
  const shared = shareModels(status)
  known.set(entry, shared)
  return shared
}

/** Why no leader can have written the status, in one sentence; null when one can. */
export function refusalOf(entry: Entry): string | null {
  if (statusIn(entry)) return null
  const fence = parse(entry.value)?.fence
  return fence === undefined
    ? 'it cannot be read'
    : `its fence ${fence} is above its own revision ${entry.modified}: no leader has that fence yet`
}

/** Models seen before, by digest. */
const knownModels = new Map<string, InventoryModel>()
const maxKnownModels = 10_000

/** Keeps equal models once, which saves memory and garbage collection: a thousand nodes have mostly the same models. */
function shareModels(status: NodeStatus): NodeStatus {
  return { ...status, models: status.models.map(share) }
}

function share(model: InventoryModel): InventoryModel {
  const before = knownModels.get(model.digest)
  if (!before || !isDeepStrictEqual(before.details, model.details)) {
    if (knownModels.size >= maxKnownModels) knownModels.clear()
    knownModels.set(model.digest, model)
    return model
  }
  if (isDeepStrictEqual(before, model)) return before
  return { ...model, digest: before.digest, details: before.details }
}

function parse(text: string): NodeStatus | null {
  try {
    return statusSchema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null // not JSON, so not from a leader
  }
}

/** Whether two statuses are equal, fence included. Learned states are equal when they are the same object. */
export function sameStatus(a: NodeStatus, b: NodeStatus): boolean {
  return a.fence === b.fence && a.weight === b.weight && a.learned === b.learned && sameObservation(a, b)
}

/**
 * Whether two observations are equal. Not compared: `expires_at`, which moves with each probe, and details, which follow
 * from the digest.
 */
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
