import { z } from 'zod'
import type { AgentRecord, InstanceRecord, LoadSummary, RememberedInstance, Term } from '../fleet/instance.ts'
import type { Folder, KeyLayout } from '../store/key-layout.ts'
import type { Entry } from '../store/store.ts'

/** Characters kept of a reason that another process wrote. */
const maxReason = 300

const instanceSchema = z.object({
  id: z.string(),
  boot: z.string(),
  version: z.string(),
  host: z.string().exactOptional(),
  data: z.string(),
  admin: z.string(),
  started: z.string(),
  role: z.enum(['leader', 'standby']),
  draining: z.boolean(),
  successor: z.string().nullable().default(null),
  question: z
    .object({ id: z.string(), nodes: z.array(z.string()), answered: z.literal(true).exactOptional() })
    .exactOptional(),
  revision: z.string(),
})

const rememberedInstanceSchema = z.object({
  boot: z.string(),
  host: z.string(),
  ended: z.object({ since: z.iso.datetime(), how: z.enum(['stopped', 'lost']) }).nullable(),
})

const agentSchema = z.object({
  name: z.string(),
  announce: z.string(),
  since: z.string(),
  registered: z.boolean(),
  reason: z
    .string()
    .transform((text) => text.slice(0, maxReason))
    .exactOptional(),
  stopped: z.boolean().exactOptional(),
})

const loadSchema = z.object({
  running: z.record(z.string(), z.number().min(0)),
  loading: z.array(z.string()).exactOptional(),
  claims: z
    .record(
      z.string(),
      z.object({ model: z.string(), since: z.number(), victims: z.array(z.string()).exactOptional() }),
    )
    .exactOptional(),
  queued: z.number().min(0),
  reached: z.record(z.string(), z.number()).exactOptional(),
  answers: z
    .record(z.string(), z.object({ question: z.string(), reached: z.array(z.string()) }))
    .exactOptional(),
})

const fenceText = z.string().regex(/^\d{1,20}$/)

const heartbeatSchema = z.object({
  fence: fenceText,
  n: z.number(),
  at: z.iso.datetime().exactOptional(),
})

/** `R/state/heartbeat`, which the leader writes every 5 s. */
export interface Heartbeat {
  readonly fence: bigint
  /** When it was written, by the leader's clock; null in heartbeats of older versions of llamero. */
  readonly at: Date | null
}

const termSchema = z.object({
  instance: z.string(),
  since: z.string(),
  until: z.string().nullable(),
  why: z.string().nullable(),
})

/** An instance's record, of any version of llamero; null when it cannot be read. */
export function readInstance(text: string): InstanceRecord | null {
  return read(text, instanceSchema)
}

/**
 * The instances' records that can be read. A record without a lease, or with another id than its key, was written by hand
 * and is left out: it would never expire.
 */
export function readInstances(entries: ReadonlyMap<string, Entry>): InstanceRecord[] {
  return [...entries].flatMap(([id, { value, lease }]) => {
    const record = lease === null ? null : readInstance(value)
    return record?.id === id ? [record] : []
  })
}

/** What is remembered of an instance; null when it cannot be read. */
export function readRememberedInstance({ value }: Entry): RememberedInstance | null {
  return read(value, rememberedInstanceSchema)
}

/** The value of `R/state/instances/<id>`. */
export function rememberedText(
  { boot, host = '' }: Pick<InstanceRecord, 'boot' | 'host'>,
  ended: RememberedInstance['ended'],
): string {
  return JSON.stringify({ boot, host, ended } satisfies RememberedInstance)
}

/** The heartbeat in the store; null when it cannot be read. The caller compares its fence with the leader's. */
export function readHeartbeat({ value }: Entry): Heartbeat | null {
  const heartbeat = read(value, heartbeatSchema)
  if (!heartbeat) return null
  const { fence, at } = heartbeat
  return { fence: BigInt(fence), at: at === undefined ? null : new Date(at) }
}

/**
 * Whether a leader can have written the entry: a fence is the revision of its leader key, and all its writes are later.
 */
export function isPossibleFence(fence: string, { modified }: Pick<Entry, 'modified'>): boolean {
  return BigInt(fence) <= modified
}

/** An agent's record; null when it cannot be read. */
export function readAgent(text: string): AgentRecord | null {
  return read(text, agentSchema)
}

/** The agents' records that can be read, by the name of the node. */
export function readAgents(entries: ReadonlyMap<string, Entry>): Map<string, AgentRecord> {
  return new Map(
    [...entries].flatMap(([name, { value }]) => {
      const agent = readAgent(value)
      return agent ? [[name, agent] as const] : []
    }),
  )
}

/** An instance's load summary; null when it cannot be read, or has no lease and so belongs to no live instance. */
export function readLoad({ value, lease }: Entry): LoadSummary | null {
  return lease === null ? null : read(value, loadSchema)
}

/** The load summaries that can be read, by instance. */
export function readLoads(entries: ReadonlyMap<string, Entry>): Map<string, LoadSummary> {
  return new Map(
    [...entries].flatMap(([id, entry]) => {
      const load = readLoad(entry)
      return load ? [[id, load] as const] : []
    }),
  )
}

/** The terms that can be read, by their fence, the newest first. */
export function readTerms(entries: ReadonlyMap<string, Entry>): Map<bigint, Term> {
  const terms = [...entries].flatMap(([name, entry]) => {
    const isTerm = /^[1-9]\d{0,19}$/.test(name) && isPossibleFence(name, entry)
    const term = isTerm ? read(entry.value, termSchema) : null
    return term ? [[BigInt(name), term] as const] : []
  })
  return new Map(terms.sort(([a], [b]) => (a > b ? -1 : 1)))
}

/** The entries of one folder of the store, by name. */
export function entriesIn(
  folder: Folder,
  entries: Iterable<Entry>,
  keys: KeyLayout,
): ReadonlyMap<string, Entry> {
  return byFolder(entries, keys)(folder)
}

/** The entries of each folder of the store, by name. */
export function byFolder(
  entries: Iterable<Entry>,
  keys: KeyLayout,
): (folder: Folder) => ReadonlyMap<string, Entry> {
  const folders = new Map<Folder, Map<string, Entry>>()
  for (const entry of entries) {
    const place = keys.parse(entry.key)
    if (!place) continue
    const found = folders.get(place.folder) ?? new Map<string, Entry>()
    folders.set(place.folder, found.set(place.name, entry))
  }
  return (folder) => folders.get(folder) ?? new Map()
}

function read<S extends z.ZodType>(text: string, schema: S): z.output<S> | null {
  try {
    return schema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null // not JSON
  }
}
