import type { Clock } from '../../shared/clock.ts'
import { Coalescer } from '../../shared/coalesce.ts'
import type { Log } from '../../shared/log.ts'
import type { Metrics } from '../../shared/metrics.ts'
import type { Saved, SnapshotFile } from './snapshot-file.ts'

interface SnapshotCacheOptions {
  readonly disk: Pick<SnapshotFile, 'load' | 'save'>
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  /** What to save, at the moment of saving; null when there is nothing to save. */
  readonly collect: () => Saved | null
}

/** Milliseconds until the next try after the disk refused. */
const retryMs = 30_000

/** Keeps what is in force on the disk for the next process: one write at a time, and many changes in one. */
export class SnapshotCache {
  readonly #options: SnapshotCacheOptions
  readonly #saving: Coalescer
  #writing: Promise<void> = Promise.resolve()
  #isFailing = false
  /** Date of the version on the disk, in milliseconds since 1970; null while there is none. */
  #savedAt: number | null = null

  constructor(options: SnapshotCacheOptions) {
    this.#options = options
    this.#saving = new Coalescer(options.clock, () => void this.#flush())
  }

  /** What an earlier process saved, or null. Never rejects. */
  async load(): Promise<Saved | null> {
    const saved = await this.#options.disk.load()
    if (saved === null) return null
    const { revision, savedAt } = saved
    this.#savedAt = Date.parse(savedAt)
    this.#options.log.warn('serving from the snapshot on disk until the store answers', {
      config: 'stale',
      revision,
      savedAt,
    })
    return saved
  }

  /** Something changed: it is saved within `withinMs`, together with what changes until then. */
  saveWithin(withinMs: number): void {
    this.#saving.within(withinMs)
  }

  /** Saves pending changes. Resolves when the last write has ended. */
  async stop(): Promise<void> {
    if (this.#saving.isDue) await this.#flush()
    await this.#writing
    this.#saving.cancel()
  }

  /** Reads the age of the version on the disk into the metrics. */
  measure(): void {
    const { clock, metrics } = this.#options
    if (this.#savedAt !== null) metrics.snapshotAge.set((clock.date().getTime() - this.#savedAt) / 1000)
  }

  #flush(): Promise<void> {
    this.#saving.cancel()
    this.#writing = this.#writing.then(() => this.#write())
    return this.#writing
  }

  async #write(): Promise<void> {
    const { disk, log, collect } = this.#options
    const saved = collect()
    if (saved === null) return
    try {
      await disk.save(saved)
      this.#savedAt = Date.parse(saved.savedAt)
      if (this.#isFailing) log.info('the snapshot is saved to disk again')
      this.#isFailing = false
    } catch (error) {
      if (!this.#isFailing) log.warn('the snapshot cannot be saved to disk; traffic goes on', { error })
      this.#isFailing = true
      this.saveWithin(retryMs)
    }
  }
}
