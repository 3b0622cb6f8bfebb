import { z } from 'zod'
import type { InstanceRecord, LoadSummary } from '../fleet/instance.ts'
import type { Folder, Keys } from '../store/keys.ts'
import type { Entry } from '../store/store.ts'

const instanceSchema = z.object({
  id: z.string(),
  boot: z.string(),
  version: z.string(),
  data: z.string(),
  admin: z.string(),
  started: z.string(),
  role: z.enum(['leader', 'standby']),
  draining: z.boolean(),
  revision: z.string(),
})

const loadSchema = z.object({
  running: z.record(z.string(), z.number().min(0)),
  queued: z.number().min(0),
})

/** An instance's record, as whatever version of llamero wrote it; null when it cannot be read. */
export function readInstance(text: string): InstanceRecord | null {
  return read(text, instanceSchema)
}

/** An instance's load summary; null when it cannot be read. */
export function readLoad(text: string): LoadSummary | null {
  return read(text, loadSchema)
}

/** The entries of one folder of the store, by name. */
export function entriesIn(folder: Folder, entries: Iterable<Entry>, keys: Keys): Map<string, Entry> {
  const found = new Map<string, Entry>()
  for (const entry of entries) {
    const place = keys.parse(entry.key)
    if (place?.folder === folder) found.set(place.name, entry)
  }
  return found
}

function read<S extends z.ZodType>(text: string, schema: S): z.output<S> | null {
  try {
    return schema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null // not JSON
  }
}
