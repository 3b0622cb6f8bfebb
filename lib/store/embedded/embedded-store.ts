import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import type { Metrics } from '../../shared/metrics.ts'
import { Condition, type Trouble } from '../condition.ts'
import { checkPrefix, checkTransaction } from '../limits.ts'
import {
  type Committed,
  type Entry,
  type Lease,
  newestOf,
  type Store,
  StoreError,
  type Transaction,
  type Watch,
  type WatchHandler,
} from '../store.ts'
import { lock } from './file-lock.ts'
import { History } from './history.ts'
import { Journal, JournalGone } from './journal.ts'
import { Leases } from './leases.ts'
import { decode, encode } from './record.ts'
import { StepDraft, type StoreStep } from './step-draft.ts'

/** The journal is rewritten when it is larger than this, and larger than twice its live content. */
const rewriteBytes = 1024 * 1024
/** Milliseconds without a refusal after which a write shows that there is room: on an almost full disk, a small write may fit. */
const settleMs = 2500
/** Milliseconds until the keys of an expired lease are deleted again, after the disk refused. */
const sweepRetryMs = 1000

interface Options {
  readonly clock: Clock
  readonly log: Log
  readonly metrics?: Metrics
}

interface Waiting {
  readonly decide: (draft: StepDraft) => Committed
  readonly done: PromiseWithResolvers<Committed>
}

/**
 * The store of a single instance: everything in memory, every committed transaction in one journalled file, on the disk
 * before its promise resolves. Transactions that wait while one is being written share the next write.
 *
 * Leases live in memory only. A lease says "my holder lives"; the one process that could hold leases here is the one
 * that has the file open, so after a restart every lease is void and so are the entries under it. The revision is kept
 * all the same: a fence must never be given twice.
 */
export class EmbeddedStore implements Store {
  readonly kind = 'embedded'
  readonly condition: Condition
  readonly #clock: Clock
  readonly #log: Log
  readonly #file: string
  readonly #journal: Journal
  readonly #unlock: () => Promise<void>
  readonly #entries: Map<string, Entry>
  readonly #history: History
  readonly #leases: Leases
  #revision: bigint
  #liveBytes: number
  #waiting: Waiting[] = []
  #draining: Promise<void> | null = null
  #closing: Promise<void> | null = null

  private constructor(
    file: string,
    options: Options,
    journal: Journal,
    payloads: readonly Buffer[],
    unlock: () => Promise<void>,
  ) {
    this.#clock = options.clock
    this.#log = options.log
    this.#file = file
    this.condition = new Condition({ ...options, settleMs })
    this.#journal = journal
    this.#unlock = unlock
    const { entries, revision } = decode(payloads)
    this.#entries = entries
    this.#revision = revision
    this.#leases = new Leases(options.clock, () => this.#sweepSoon())
    this.#history = new History(revision, options.log)
    this.#liveBytes = this.#everything().length
  }

  /**
   * Opens the file, creating it and its directory when they are missing, and locks it.
   *
   * @throws StoreError `denied` when another process has it open, or it is damaged
   */
  static async open(file: string, options: Options): Promise<EmbeddedStore> {
    try {
      await mkdir(dirname(file), { recursive: true, mode: 0o700 })
      return await EmbeddedStore.#openLocked(file, options, await lock(file))
    } catch (error) {
      if (error instanceof StoreError) throw error
      const { reason, remedy } = troubleOf(file, error)
      throw new StoreError('denied', `the store cannot be opened: ${reason}; ${remedy}`, { cause: error })
    }
  }

  static async #openLocked(
    file: string,
    options: Options,
    unlock: () => Promise<void>,
  ): Promise<EmbeddedStore> {
    try {
      const { journal, payloads, cutBytes } = await Journal.open(file, encode({ revision: 0n, changes: [] }))
      if (cutBytes > 0) options.log.warn('an unfinished write was cut off the store file', { file, cutBytes })
      return new EmbeddedStore(file, options, journal, payloads, unlock)
    } catch (error) {
      await unlock()
      throw error
    }
  }

  async get(key: string): Promise<Entry | null> {
    this.#refuseClosed()
    return this.#entries.get(key) ?? null
  }

  async list(prefix: string): Promise<{ entries: Entry[]; revision: bigint }> {
    this.#refuseClosed()
    checkPrefix(prefix)
    const entries = this.#under(prefix).sort((a, b) => (a.key < b.key ? -1 : 1))
    return { entries, revision: this.#revision }
  }

  async newest(prefix: string): Promise<{ count: number; modified: bigint }> {
    this.#refuseClosed()
    checkPrefix(prefix)
    const entries = this.#under(prefix)
    return { count: entries.length, modified: newestOf(entries) }
  }

  async watch(prefix: string, from: bigint, handler: WatchHandler): Promise<Watch> {
    this.#refuseClosed()
    checkPrefix(prefix)
    return this.#history.watch(prefix, from, handler)
  }

  async commit(transaction: Transaction): Promise<Committed> {
    this.#refuseClosed()
    checkTransaction(transaction)
    return this.#enqueue((draft) => draft.commit(transaction, this.#leases))
  }

  async grant(ttlMs: number): Promise<Lease> {
    this.#refuseClosed()
    return this.#leases.grant(ttlMs)
  }

  async renew(lease: string): Promise<number> {
    this.#refuseClosed()
    return this.#leases.renew(lease)
  }

  async revoke(lease: string): Promise<void> {
    this.#refuseClosed()
    this.#leases.end(lease)
    await this.#sweep()
  }

  close(): Promise<void> {
    this.#closing ??= this.#shut()
    return this.#closing
  }

  async #shut(): Promise<void> {
    this.#leases.close()
    await this.#draining
    this.#history.close()
    await this.#journal.close()
    await this.#unlock()
  }

  #refuseClosed(): void {
    if (this.#closing !== null) throw new StoreError('closed', 'the store is closed')
  }

  #under(prefix: string): Entry[] {
    return [...this.#entries.values()].filter(({ key }) => key.startsWith(prefix))
  }

  /** The keys of an expired lease go with the next write that the disk takes. */
  #sweepSoon(): void {
    this.#sweep().catch((error: unknown) => {
      this.#log.warn('the keys of an expired lease could not be deleted yet', { error })
      if (this.#closing === null) this.#clock.after(sweepRetryMs, () => this.#sweepSoon())
    })
  }

  /** Deletes every entry under an ended lease. */
  async #sweep(): Promise<void> {
    await this.#enqueue((draft) => {
      draft.sweep(this.#leases)
      return { succeeded: true, revision: this.#revision, found: [] }
    })
  }

  #enqueue(decide: (draft: StepDraft) => Committed): Promise<Committed> {
    const done = Promise.withResolvers<Committed>()
    this.#waiting.push({ decide, done })
    this.#draining ??= this.#drain()
    return done.promise
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      await this.#write(this.#waiting.splice(0))
      if (this.#journal.size > Math.max(rewriteBytes, 2 * this.#liveBytes)) await this.#rewrite()
    }
    // In the same turn as the last check of the queue: the next transaction starts a new write.
    this.#draining = null
  }

  /** Decides a batch, writes it, then makes it visible. */
  async #write(batch: readonly Waiting[]): Promise<void> {
    const draft = new StepDraft(this.#entries, this.#revision)
    const settle = batch.map(({ decide, done }) => {
      try {
        const committed = decide(draft)
        return () => done.resolve(committed)
      } catch (error) {
        return () => done.reject(error)
      }
    })
    try {
      if (draft.steps.length > 0) {
        await this.#journal.append(draft.steps.map(encode))
        this.condition.wrote()
      }
    } catch (cause) {
      const trouble = troubleOf(this.#file, cause)
      this.condition.refused(trouble)
      const error = new StoreError('unavailable', `the store file cannot be written: ${trouble.reason}`, {
        cause,
      })
      for (const { done } of batch) done.reject(error)
      return
    }
    for (const step of draft.steps) this.#publish(step)
    for (const answer of settle) answer()
  }

  #publish(step: StoreStep): void {
    for (const change of step.changes) {
      if (change.type === 'put') this.#entries.set(change.entry.key, change.entry)
      else this.#entries.delete(change.key)
    }
    this.#revision = step.revision
    this.#history.add(step)
  }

  /** Every entry as one record. */
  #everything(): Buffer {
    const changes = [...this.#entries.values()].map((entry) => ({ type: 'put' as const, entry }))
    return encode({ revision: this.#revision, changes })
  }

  async #rewrite(): Promise<void> {
    const everything = this.#everything()
    // Also on failure: the next try comes after the same growth, not after every write.
    this.#liveBytes = Math.max(everything.length, this.#journal.size)
    try {
      await this.#journal.rewrite(everything)
      this.#liveBytes = everything.length
    } catch (error) {
      this.#log.warn('the store file could not be compacted', { error })
    }
  }
}

function troubleOf(file: string, cause: unknown): Trouble {
  if (cause instanceof JournalGone)
    return {
      kind: 'unwritable',
      refuses: 'writes',
      reason: `${file} was removed or replaced while llamero runs`,
      remedy: 'put it back, or restart llamero, which then starts with the file it finds',
    }
  const { code = 'unknown error' } = cause as NodeJS.ErrnoException
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? {
        kind: 'disk-full',
        refuses: 'writes',
        reason: `disk full: no room to write ${file}`,
        remedy: 'free space on it, or move the state directory (LLAMERO_STATE)',
      }
    : {
        kind: 'unwritable',
        refuses: 'writes',
        reason: `${file} cannot be written (${code})`,
        remedy: 'check the disk, its mount, its permissions, and the limits of the process',
      }
}
