import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { DiskSnapshot, Saved } from './disk-snapshot.ts'

interface LastGoodOptions {
  readonly disk: Pick<DiskSnapshot, 'save'>
  readonly clock: Clock
  readonly log: Log
  /** What to save, at the moment of saving; null when there is nothing worth it. */
  readonly collect: () => Saved | null
}

/** Milliseconds until the next try after the disk refused. */
const retryMs = 30_000

/** Keeps the disk up to date with what is in force: one write at a time, and many changes in one. */
export class LastGood {
  readonly #options: LastGoodOptions
  #due: { readonly at: number; readonly cancel: () => void } | null = null
  #writing: Promise<void> = Promise.resolve()
  #isFailing = false
  #savedAt: number | null = null

  constructor(options: LastGoodOptions) {
    this.#options = options
  }

  /** Date of the version on the disk, in milliseconds since 1970; null while there is none. */
  get savedAt(): number | null {
    return this.#savedAt
  }

  /** Takes note of the version that is on the disk. */
  found({ savedAt }: Pick<Saved, 'savedAt'>): void {
    this.#savedAt = Date.parse(savedAt)
  }

  /** Something changed: it is saved within `withinMs`, together with what changes until then. */
  changed(withinMs: number): void {
    const { clock } = this.#options
    const at = clock.now() + withinMs
    if (this.#due && this.#due.at <= at) return
    this.#due?.cancel()
    this.#due = { at, cancel: clock.after(withinMs, () => void this.#flush()) }
  }

  /** Saves what is not saved yet. Resolves when nothing is being written any more. */
  async stop(): Promise<void> {
    if (this.#due) await this.#flush()
    await this.#writing
    this.#due?.cancel()
    this.#due = null
  }

  #flush(): Promise<void> {
    this.#due?.cancel()
    this.#due = null
    this.#writing = this.#writing.then(() => this.#write())
    return this.#writing
  }

  async #write(): Promise<void> {
    const { disk, log, collect } = this.#options
    const saved = collect()
    if (saved === null) return
    try {
      await disk.save(saved)
      this.found(saved)
      if (this.#isFailing) log.info('the snapshot is saved to disk again')
      this.#isFailing = false
    } catch (error) {
      if (!this.#isFailing) log.warn('the snapshot cannot be saved to disk; traffic goes on', { error })
      this.#isFailing = true
      this.changed(retryMs)
    }
  }
}
