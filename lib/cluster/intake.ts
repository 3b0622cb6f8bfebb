import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Keys } from '../store/keys.ts'
import type { Entry } from '../store/store.ts'

interface IntakeOptions {
  readonly clock: Clock
  readonly log: Log
  readonly keys: Keys
  /** Everything in the store, as far as known. */
  readonly entries: () => ReadonlyMap<string, Entry>
  /** Does the work on some of the entries ahead. */
  readonly prepare: (entries: readonly Entry[]) => void
  /** Takes in all that changed, at once. */
  readonly take: (changed: ReadonlySet<string>) => void
}

/** Milliseconds between two times that statuses are taken in, which then cost a look at every node. */
const gapMs = 50
/** Characters of text read in one turn of the event loop: about 3 ms. */
const sliceChars = 64 * 1024
/** What reading an entry costs besides its length, in characters. */
const entryChars = 3000

/**
 * Takes in what changes in the store, without keeping the event loop from its traffic: a large change is read ahead in
 * slices and put in force whole, and a burst of statuses in few pieces. Whatever else changes, the leader's key above
 * all, waits for no pause.
 */
export class Intake {
  readonly #options: IntakeOptions
  #changed = new Set<string>()
  readonly #unread = new Set<string>()
  #takenAt = Number.NEGATIVE_INFINITY
  /** Ends a pause, or the slices. */
  #cancel: (() => void) | null = null

  constructor(options: IntakeOptions) {
    this.#options = options
  }

  /** Told of keys whose entries are new, changed or gone. */
  changed(keys: ReadonlySet<string>): void {
    for (const key of keys) {
      this.#changed.add(key)
      this.#unread.add(key)
    }
    const isPatient = [...keys].every((key) => this.#options.keys.parse(key)?.folder === 'state/nodes')
    if (isPatient && this.#cancel) return
    const { clock } = this.#options
    const pauseMs = isPatient ? this.#takenAt + gapMs - clock.now() : 0
    if (pauseMs > 0) this.#cancel = clock.after(pauseMs, () => this.#read())
    else this.#read()
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = null
  }

  /** One slice, then another turn; what fits into the last one is left to those who take it in. */
  #read(): void {
    const { clock, entries, prepare } = this.#options
    this.stop()
    const slice: Entry[] = []
    let chars = 0
    for (const key of this.#unread) {
      this.#unread.delete(key)
      const entry = entries().get(key)
      if (!entry) continue
      slice.push(entry)
      chars += entryChars + entry.value.length
      if (chars < sliceChars) continue
      this.#cancel = clock.after(0, () => this.#read())
      this.#guarded(() => prepare(slice))
      return
    }
    this.#takenAt = clock.now()
    const changed = this.#changed
    this.#changed = new Set()
    this.#guarded(() => this.#options.take(changed))
  }

  /** Often called by a timer: what it throws would end the process. */
  #guarded(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#options.log.error('changes of the store could not be taken in', { error })
    }
  }
}
