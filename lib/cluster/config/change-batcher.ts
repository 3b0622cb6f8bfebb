import type { Clock } from '../../shared/clock.ts'
import { Coalescer } from '../../shared/coalesce.ts'
import type { Log } from '../../shared/log.ts'
import type { Informer } from '../../store/informer.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry } from '../../store/store.ts'
import type { SnapshotBuilder } from './snapshot-builder.ts'
import { isOperatorFolder } from './stored-documents.ts'

interface ChangeBatcherOptions {
  readonly clock: Clock
  readonly log: Log
  readonly keys: KeyLayout
  readonly informer: Pick<Informer, 'entries' | 'revision'>
  readonly builder: Pick<SnapshotBuilder, 'read' | 'prepare' | 'follow'>
  /** Called after the snapshot followed a change; `isOtherHistory` is what `SnapshotBuilder.follow` returned. */
  readonly followed: (changed: ReadonlySet<string>, isOtherHistory: boolean) => void
}

/** Milliseconds between two batches of statuses, each of which costs a pass over every node. */
const gapMs = 50
/** The same for documents, which an operator waits for: this many times as long as the last batch took, if that is less. */
const gapPerBatch = 3
/** Characters of text read in one turn of the event loop, which is about 3 ms, and milliseconds where they take longer. */
const sliceChars = 64 * 1024
const sliceMs = 4
/** The cost of reading an entry besides its length, in characters. */
const entryChars = 3000

/**
 * Gathers the changes of the store into batches, so that they do not keep the event loop from its traffic: a large change
 * is read ahead in slices and put in force whole, and a burst of documents or statuses in few batches. All other changes,
 * that of the leader's key above all, are not delayed.
 */
export class ChangeBatcher {
  readonly #options: ChangeBatcherOptions
  #changed = new Set<string>()
  readonly #unread = new Set<string>()
  /** When the last batch was put in force, and how long that took. */
  #takenAt = Number.NEGATIVE_INFINITY
  #tookMs = 0
  /** After a pause, or for the next slice. */
  readonly #reading: Coalescer

  constructor(options: ChangeBatcherOptions) {
    this.#options = options
    this.#reading = new Coalescer(options.clock, () => this.#read())
  }

  /** Called with the keys of entries that are new, changed or gone. */
  add(keys: ReadonlySet<string>): void {
    for (const key of keys) {
      this.#changed.add(key)
      this.#unread.add(key)
    }
    const areStatuses = this.#areAll(keys, (folder) => folder === 'state/nodes')
    if (areStatuses && this.#reading.isDue) return
    const pauseMs = this.#takenAt + this.#gapBefore(keys, areStatuses) - this.#options.clock.now()
    if (pauseMs > 0) this.#reading.within(pauseMs)
    else this.#read()
  }

  stop(): void {
    this.#reading.cancel()
  }

  /** Prepares one slice, then lets other work run. After the last slice all changes are put in force together. */
  #read(): void {
    const { clock, informer, builder } = this.#options
    this.stop()
    const endsAt = clock.now() + sliceMs
    const slice: Entry[] = []
    let chars = 0
    for (const key of this.#unread) {
      this.#unread.delete(key)
      const entry = informer.entries.get(key)
      if (!entry) continue
      slice.push(entry)
      this.#guarded(() => builder.read(entry))
      chars += entryChars + entry.value.length
      if (chars < sliceChars && clock.now() < endsAt) continue
      this.#reading.within(0)
      this.#guarded(() => builder.prepare(slice))
      return
    }
    this.#guarded(() => this.#take())
  }

  #gapBefore(keys: ReadonlySet<string>, areStatuses: boolean): number {
    if (areStatuses) return gapMs
    const areDocuments = this.#areAll(keys, (folder) => folder === 'state/nodes' || isOperatorFolder(folder))
    return areDocuments ? Math.min(gapMs, gapPerBatch * this.#tookMs) : 0
  }

  #areAll(keys: ReadonlySet<string>, isWanted: (folder: string) => boolean): boolean {
    return [...keys].every((key) => isWanted(this.#options.keys.parse(key)?.folder ?? ''))
  }

  #take(): void {
    const { clock, informer, builder, followed } = this.#options
    this.#takenAt = clock.now()
    const changed = this.#changed
    this.#changed = new Set()
    const { entries, revision } = informer
    const isOtherHistory = builder.follow({ entries, revision }, changed)
    this.#tookMs = clock.now() - this.#takenAt
    followed(changed, isOtherHistory)
  }

  /** A timer may be what calls this: an error that it throws would end the process. */
  #guarded(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#options.log.error('changes of the store were not applied', { error })
    }
  }
}
