import { z } from 'zod'
import { type JobSpec, type JobStatus, type JobView, jobActions, jobStates } from '../../fleet/job.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry } from '../../store/store.ts'
import { entriesIn, isPossibleFence } from '../records.ts'

const specSchema = z.object({
  action: z.enum(jobActions),
  model: z.string(),
  body: z.record(z.string(), z.unknown()),
  nodes: z.array(z.string()).min(1),
  spares: z.array(z.string()),
  tenant: z.string(),
  created: z.iso.datetime(),
  cancelled: z.boolean(),
})

const bytes = z.number().min(0)

const statusSchema = z.object({
  fence: z.string().regex(/^\d{1,20}$/),
  state: z.enum(jobStates),
  ended: z.iso.datetime().nullable(),
  nodes: z.record(
    z.string(),
    z.object({
      state: z.enum(jobStates),
      status: z.string(),
      layers: z.record(z.string(), z.object({ total: bytes, completed: bytes })),
      error: z.string().nullable(),
      code: z.number().nullable(),
      replacedBy: z.string().exactOptional(),
    }),
  ),
})

/** `R/jobs/<id>`; null when it cannot be read, because of a typo or of another version of llamero. */
export const readJobSpec = remembering((entry): JobSpec | null => read(entry.value, specSchema))

/** `R/state/jobs/<id>`; null when no leader can have written it. */
const readJobStatus = remembering((entry): JobStatus | null => {
  const status = read(entry.value, statusSchema)
  return status && isPossibleFence(status.fence, entry) ? status : null
})

type Entries = ReadonlyMap<string, Entry>

/** A job as it is stored; null when there is none or it cannot be read. */
export function readJob(id: string, entries: Entries, keys: KeyLayout): JobView | null {
  const wanted = entries.get(keys.job(id))
  const spec = wanted ? readJobSpec(wanted) : null
  if (spec === null) return null
  const state = entries.get(keys.jobState(id))
  return { id, spec, status: state ? readJobStatus(state) : null }
}

/** The ids of all jobs, readable or not, the oldest first by revision: clocks differ. */
export function jobIds(entries: Entries, keys: KeyLayout): string[] {
  const stored = [...entriesIn('jobs', entries.values(), keys)]
  return stored.sort(([, a], [, b]) => Number(a.created - b.created)).map(([id]) => id)
}

/** The ids of jobs of which only the state is left. */
export function orphanedJobs(entries: Entries, keys: KeyLayout): string[] {
  const states = entriesIn('state/jobs', entries.values(), keys)
  return [...states.keys()].filter((id) => !entries.has(keys.job(id)))
}

/** Caches the result by entry: entries are replaced, never changed. */
function remembering<T>(parse: (entry: Entry) => T): (entry: Entry) => T {
  const known = new WeakMap<Entry, T>()
  return (entry) => {
    const before = known.get(entry)
    if (before !== undefined) return before
    const record = parse(entry)
    known.set(entry, record)
    return record
  }
}

function read<S extends z.ZodType>(text: string, schema: S): z.output<S> | null {
  try {
    return schema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null // not JSON
  }
}
