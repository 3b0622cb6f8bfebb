import { createHash } from 'node:crypto'
import { type FileHandle, readFile, rename } from 'node:fs/promises'
import { z } from 'zod'
import type { NodeStatus } from '../../fleet/node.ts'
import type { Log } from '../../shared/log.ts'
import { createFile, syncDirectoryOf } from '../../shared/process/write-file.ts'
import type { Entry } from '../../store/store.ts'
import { statusSchema } from '../probing/stored-status.ts'
import { memorySchema, type RememberedRecord } from './remembered-nodes.ts'
import { allDocuments, type StoredDocuments } from './stored-documents.ts'

const revision = z.string().regex(/^\d{1,20}$/)

const savedSchema = z.object({
  /** The uid of the store, from `R/meta/uid`. */
  uid: z.string().nullable(),
  revision,
  /** ISO date. */
  savedAt: z.iso.datetime(),
  /** The documents in force: the text, and the revisions that identify it in the store's history. */
  objects: z.array(
    z.object({
      key: z.string(),
      text: z.string(),
      created: revision,
      modified: revision,
      leased: z.boolean(),
    }),
  ),
  /** How many instances were registered. The store's client spreads its reconnects by that number. */
  instances: z.number().int().min(0).default(1),
  /** ISO date of a leader's last heartbeat, which is how current the statuses are; null when none arrived. */
  confirmedAt: z.iso.datetime().nullable().default(null),
  /** Records of nodes that agents registered, by node name; files of older versions have none. */
  remembered: z.record(z.string(), memorySchema).default({}),
  /** By node name. */
  statuses: z.record(z.string(), statusSchema),
})

/** The saved snapshot: what an instance needs to serve without a store. */
export type Saved = Omit<z.output<typeof savedSchema>, 'remembered' | 'statuses'> & {
  readonly remembered: Readonly<Record<string, RememberedRecord>>
  readonly statuses: Readonly<Record<string, NodeStatus>>
}

/** The documents in force, as they are saved. */
export function savedDocuments(objects: StoredDocuments): Saved['objects'] {
  return allDocuments(objects).flatMap(({ key, created, active, isLeased }) => {
    if (!active) return []
    const { text, revision } = active
    return [{ key, text, created: String(created), modified: String(revision), leased: isLeased }]
  })
}

/** The saved documents as entries of the store. The lease is a placeholder: those of agents ended with their process. */
export function entriesOf({ objects }: Saved): Entry[] {
  return objects.map(({ key, text, created, modified, leased }) => ({
    key,
    value: text,
    created: BigInt(created),
    modified: BigInt(modified),
    lease: leased ? 'former' : null,
  }))
}

/**
 * The last good configuration in a file of the state directory (docs/etcd.md#snapshot-on-disk). Only the owner may read
 * the file, since it holds key hashes and headers of nodes. The previous version is kept next to it.
 */
export class SnapshotFile {
  readonly #path: string
  readonly #log: Log

  constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
  }

  /** The newest intact version, or null. Never rejects, since an instance starts without a saved snapshot, too. */
  async load(): Promise<Saved | null> {
    for (const path of [this.#path, this.#previous]) {
      const text = await readFile(path, 'utf8').catch(() => null)
      const saved = text === null ? null : unseal(text)
      if (saved) return saved
      if (text !== null) this.#log.warn('the snapshot on disk is damaged', { path })
    }
    return null
  }

  /** Resolves once the file is synced; an intact version exists at every moment. Rejects with the error of the disk. */
  async save(saved: Saved): Promise<void> {
    const fresh = `${this.#path}.new`
    const file = await createFile(fresh, (each) => writeSealed(each, saved))
    await file.close()
    await rename(this.#path, this.#previous).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
    await rename(fresh, this.#path)
    await syncDirectoryOf(this.#path)
  }

  get #previous(): string {
    return `${this.#path}.prev`
  }
}

/** Characters per write. */
const chunkChars = 64 * 1024

/**
 * Writes the JSON of `saved` with its digest as the last member, in pieces: in one, a large fleet blocks the event loop
 * for 100 ms.
 */
async function writeSealed(file: FileHandle, saved: Saved): Promise<void> {
  const hash = createHash('sha256')
  let chunk = ''
  for (const piece of piecesOf(saved)) {
    hash.update(piece)
    chunk += piece
    if (chunk.length < chunkChars) continue
    await file.appendFile(chunk)
    chunk = ''
  }
  await file.appendFile(`${chunk},"sha256":"${hash.update('}').digest('hex')}"}\n`)
}

/** The result of JSON.stringify without the last brace, one status at a time. */
function* piecesOf({ statuses, ...rest }: Saved): Generator<string> {
  yield `${JSON.stringify(rest).slice(0, -1)},"statuses":{`
  let comma = ''
  for (const [name, status] of Object.entries(statuses)) {
    yield `${comma}${JSON.stringify(name)}:${JSON.stringify(status)}`
    comma = ','
  }
  yield '}'
}

function unseal(text: string): Saved | null {
  try {
    const { sha256, ...saved } = JSON.parse(text)
    return sha256 === digestOf(saved) ? (savedSchema.safeParse(saved).data ?? null) : null
  } catch {
    return null // truncated, or no JSON
  }
}

function digestOf(saved: unknown): string {
  return createHash('sha256').update(JSON.stringify(saved)).digest('hex')
}
