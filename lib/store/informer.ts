import { doubledMs } from '../shared/backoff.ts'
import { Coalescer } from '../shared/coalesce.ts'
import { ControlLoop } from '../shared/control-loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Runtime } from '../shared/runtime.ts'
import { type Change, type Entry, newestOf, type Store } from './store.ts'

/** Milliseconds before the next list after k failures in a row: 50 * 2^k, jitter included at most 1 s. */
const firstPauseMs = 50
const maxPauseMs = 800
const pauseJitter = 0.25
/** A watch that stood this long, in milliseconds, ends a row of failures. */
const steadyMs = 1000
/** Milliseconds between two probes for a silently dead watch, and the grace for events on their way. */
const probeMs = 10_000
const graceMs = 200

interface Options extends Omit<Runtime, 'metrics'> {
  readonly store: Store
  /** Ends in "/". */
  readonly prefix: string
  readonly metrics?: Metrics
  /**
   * Called with the keys whose entries are new, changed or gone, several changes in one call; after the first list with
   * every key, also when there is none. Never called after `stop`.
   */
  readonly changed: (keys: ReadonlySet<string>) => void
  /** Called each time the store did not answer, or ended a young watch. */
  readonly lost?: () => void
}

/** Why a watch ended and the prefix is relisted. */
type Reason = 'compacted' | 'lost' | 'silent' | 'stopped'

/**
 * A copy of everything under a prefix that follows the store: list at one revision, watch from the next one, and after
 * any break the same again (docs/etcd.md#informer). While the store is away the copy stays as it was.
 *
 *     listing -> following -> (compacted | lost | silent) -> pause -> listing
 */
export class Informer {
  readonly #options: Options
  readonly #follow: ControlLoop
  readonly #probe: ControlLoop
  #entries = new Map<string, Entry>()
  #revision = 0n
  #synced = false
  #lastContactMs: number | null = null
  #inStepMs: number | null = null
  #failures = 0
  /** Ends the watch that stands, null when none does. */
  #break: ((reason: Reason) => void) | null = null
  /** What ended the last watch, until the list that follows is in. */
  #brokenBy: Reason | null = null
  #dirty = new Set<string>()
  /** Outside the stream's callback, and once for everything that changes until then. */
  readonly #report: Coalescer

  constructor(options: Options) {
    this.#options = options
    const { clock, random } = options
    this.#report = new Coalescer(clock, () => this.#reportDirty())
    this.#follow = new ControlLoop({
      clock,
      random,
      periodMs: () => doubledMs(firstPauseMs, maxPauseMs, this.#failures),
      jitter: pauseJitter,
      round: (signal) => this.#round(signal),
    })
    this.#probe = new ControlLoop({
      clock,
      random,
      periodMs: () => probeMs,
      jitter: 0.2,
      round: (signal) => this.#look(signal),
    })
  }

  /** The entries under the prefix, as far as known. Read it again after each `changed`. */
  get entries(): ReadonlyMap<string, Entry> {
    return this.#entries
  }

  /** The newest revision that `entries` includes. */
  get revision(): bigint {
    return this.#revision
  }

  /** Whether the first list is in. */
  get synced(): boolean {
    return this.#synced
  }

  /** Whether a watch stands: changes arrive as they happen. */
  get following(): boolean {
    return this.#break !== null
  }

  /** Whether the store did not answer the last time; false before the first try. */
  get lost(): boolean {
    return !this.following && this.#failures > 0
  }

  /** `clock.now()` of the last good answer or event, null before the first. */
  get lastContactMs(): number | null {
    return this.#lastContactMs
  }

  /**
   * `clock.now()` at which `entries` were last known to be complete: a list, a change that arrived, or a probe that found
   * nothing missing. Null before the first list.
   */
  get inStepMs(): number | null {
    return this.#inStepMs
  }

  start(): void {
    this.#follow.start()
    this.#probe.start()
  }

  async stop(): Promise<void> {
    this.#report.cancel()
    const stopped = Promise.all([this.#follow.stop(), this.#probe.stop()])
    this.#break?.('stopped')
    await stopped
  }

  /** Lists, then follows until the watch breaks. */
  async #round(signal: AbortSignal): Promise<void> {
    const { clock, log, prefix, store } = this.#options
    let standingSinceMs = Number.POSITIVE_INFINITY
    try {
      const { entries, revision } = await store.list(prefix)
      if (signal.aborted) return
      this.#replace(entries, revision)
      const watch = await this.#watch(revision + 1n, signal)
      standingSinceMs = clock.now()
      this.#brokenBy = await watch.broken
      watch.close()
    } catch (error) {
      if (this.#failures === 0)
        log.warn('the store cannot be followed: the last copy stays in use', { prefix, error })
    }
    this.#failures = clock.now() - standingSinceMs >= steadyMs ? 0 : this.#failures + 1
    if (this.lost && !signal.aborted) this.#options.lost?.()
  }

  async #watch(from: bigint, signal: AbortSignal): Promise<{ broken: Promise<Reason>; close: () => void }> {
    const { store, prefix } = this.#options
    const broken = Promise.withResolvers<Reason>()
    const watch = await store.watch(prefix, from, {
      changed: (changes) => {
        if (!signal.aborted) this.#apply(changes)
      },
      broken: (reason) => broken.resolve(reason),
    })
    this.#touch()
    this.#break = broken.resolve
    // etcd before 3.4.36 swallows a delete at whose revision it was compacted between the list and the watch.
    this.#probe.poke()
    if (signal.aborted) broken.resolve('stopped')
    return {
      broken: broken.promise,
      close: () => {
        this.#break = null
        watch.close()
      },
    }
  }

  /**
   * A half-open connection looks like a quiet one: the probe compares the store with what arrived. A failed call says
   * nothing about the watch, and ends this probe only.
   */
  async #look(signal: AbortSignal): Promise<void> {
    const { clock, prefix, store } = this.#options
    const breakWatch = this.#break
    if (!breakWatch) return
    const { count, modified } = await store.newest(prefix)
    this.#touch()
    const revision = this.#revision
    if (count === this.#entries.size && modified === newestOf(this.#entries.values())) {
      this.#inStepMs = clock.now()
      return
    }
    await clock.sleep(graceMs, signal)
    // All changes of the meantime came through this watch, or through a new one.
    if (this.#break === breakWatch && this.#revision === revision) breakWatch('silent')
  }

  #replace(entries: readonly Entry[], revision: bigint): void {
    const { log, metrics, prefix } = this.#options
    const before = this.#entries
    this.#entries = new Map(entries.map((entry) => [entry.key, entry]))
    this.#revision = revision
    this.#touch()
    this.#inStepMs = this.#lastContactMs
    if (this.#brokenBy) {
      metrics?.relists.inc({ reason: this.#brokenBy })
      log.info('relisted the store', { prefix, reason: this.#brokenBy })
      this.#brokenBy = null
    }
    const keys = differing(before, this.#entries)
    if (keys.length > 0 || !this.#synced) this.#markDirty(keys)
    this.#synced = true
  }

  /**
   * etcd may send a change twice (3.4.24) or go back in time (3.4.25): only a change newer than the known entry counts.
   * New revisions come in order and each in one piece, so an absent key is known to be absent up to the revision reached:
   * a put sent again after its delete brings nothing back.
   */
  #apply(changes: readonly Change[]): void {
    this.#touch()
    this.#inStepMs = this.#lastContactMs
    const before = this.#revision
    const keys: string[] = []
    for (const change of changes) {
      const { key, modified } = change.type === 'put' ? change.entry : change
      const known = this.#entries.get(key)
      const isNews = known ? modified > known.modified : modified > before && modified >= this.#revision
      if (!isNews) continue
      if (change.type === 'put') this.#entries.set(key, change.entry)
      else this.#entries.delete(key)
      if (change.type === 'put' || known) keys.push(key)
      if (modified > this.#revision) this.#revision = modified
    }
    if (keys.length > 0) this.#markDirty(keys)
  }

  #markDirty(keys: readonly string[]): void {
    for (const key of keys) this.#dirty.add(key)
    this.#report.within(0)
  }

  #reportDirty(): void {
    const { changed, log, prefix } = this.#options
    const dirty = this.#dirty
    this.#dirty = new Set()
    try {
      changed(dirty)
    } catch (error) {
      log.error('changes of the store were not applied', { prefix, error })
    }
  }

  #touch(): void {
    this.#lastContactMs = this.#options.clock.now()
  }
}

/** Revisions alone are not enough: a wiped store counts from the beginning again. */
function differing(before: ReadonlyMap<string, Entry>, after: ReadonlyMap<string, Entry>): string[] {
  const keys = [...before.keys()].filter((key) => !after.has(key))
  for (const [key, { modified, value }] of after) {
    const known = before.get(key)
    if (known?.modified !== modified || known.value !== value) keys.push(key)
  }
  return keys
}
