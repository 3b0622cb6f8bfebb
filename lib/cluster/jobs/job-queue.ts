import { randomBytes } from 'node:crypto'
import { isOver, type JobSpec, type JobState, type Jobs, type JobView, jobStates } from '../../fleet/job.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Metrics } from '../../shared/metrics.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import { type Entry, type Store, StoreError } from '../../store/store.ts'
import { jobIds, readJob, readJobSpec } from './job-records.ts'

interface JobQueueOptions {
  readonly store: Store
  readonly keys: KeyLayout
  readonly clock: Clock
  /** Everything under the cluster's root. */
  readonly entries: () => ReadonlyMap<string, Entry>
  /** Whether the cluster has a leader. */
  readonly hasLeader: () => boolean
}

interface Follower {
  readonly listener: (job: JobView) => void
  seen: JobView | null
}

/** Bytes of a job document, well below the 256 KiB that one value in the store may have. */
const maxBytes = 200_000

/** The model jobs in the store: every instance submits and follows them here, and the leader carries them out. */
export class JobQueue implements Jobs {
  readonly #options: JobQueueOptions
  readonly #followers = new Map<string, Set<Follower>>()
  /** Jobs that this instance submitted and that have not come back through the watch yet. */
  readonly #submitted = new Map<string, JobView>()

  constructor(options: JobQueueOptions) {
    this.#options = options
  }

  async submit(wanted: Omit<JobSpec, 'created' | 'cancelled'>): Promise<string> {
    const { store, keys, clock, hasLeader } = this.#options
    const spec: JobSpec = { ...wanted, created: clock.date().toISOString(), cancelled: false }
    const value = JSON.stringify(spec)
    if (Buffer.byteLength(value) > maxBytes) throw new ProxyError('job_too_large', { limit: maxBytes })
    if (!hasLeader()) throw new ProxyError('no_leader')
    const id = randomBytes(8).toString('hex')
    const key = keys.job(id)
    await orUnavailable(store.commit({ when: [{ key, created: 0n }], apply: [{ type: 'put', key, value }] }))
    if (!this.get(id)) this.#submitted.set(id, { id, spec, status: null })
    return id
  }

  get(id: string): JobView | null {
    const { entries, keys } = this.#options
    return readJob(id, entries(), keys) ?? this.#submitted.get(id) ?? null
  }

  list(): readonly JobView[] {
    const { entries, keys } = this.#options
    const ids = new Set([...jobIds(entries(), keys), ...this.#submitted.keys()])
    return [...ids].reverse().flatMap((id) => this.get(id) ?? [])
  }

  follow(id: string, listener: (job: JobView) => void): () => void {
    const follower: Follower = { listener, seen: this.get(id) }
    const others = this.#followers.get(id) ?? new Set()
    this.#followers.set(id, others.add(follower))
    if (follower.seen) listener(follower.seen)
    return () => {
      others.delete(follower)
      if (others.size === 0) this.#followers.delete(id)
    }
  }

  async cancel(id: string): Promise<void> {
    const { store, keys } = this.#options
    const key = keys.job(id)
    for (;;) {
      const entry = await orUnavailable(store.get(key))
      const spec = entry && readJobSpec(entry)
      if (!entry || !spec) throw new ProxyError('not_found', { kind: 'job', name: id })
      if (spec.cancelled) return
      // Changes the stored document, so that fields of a newer version stay.
      const value = JSON.stringify({ ...JSON.parse(entry.value), cancelled: true })
      const when = [{ key, modified: entry.modified }]
      const { succeeded } = await orUnavailable(store.commit({ when, apply: [{ type: 'put', key, value }] }))
      if (succeeded) return
    }
  }

  /** Called with the keys that changed in the store. Returns whether one of them belongs to a job. */
  changed(keysChanged: ReadonlySet<string>): boolean {
    const { keys } = this.#options
    const ids = new Set<string>()
    for (const key of keysChanged) {
      const place = keys.parse(key)
      if (place?.folder === 'jobs' || place?.folder === 'state/jobs') ids.add(place.name)
    }
    for (const id of ids) this.#notify(id)
    return ids.size > 0
  }

  /** Counts the jobs by state into the metrics. */
  measure(metrics: Metrics): void {
    const counts = new Map<JobState, number>(jobStates.map((state) => [state, 0]))
    for (const { status } of this.list()) {
      const state = status?.state ?? 'waiting'
      counts.set(state, (counts.get(state) ?? 0) + 1)
    }
    for (const [state, count] of counts) metrics.jobs.set({ state }, count)
  }

  #notify(id: string): void {
    this.#submitted.delete(id)
    const job = this.get(id)
    for (const follower of [...(this.#followers.get(id) ?? [])]) {
      const view = job ?? this.#cancelledView(follower.seen)
      follower.seen = view
      if (view) follower.listener(view)
    }
  }

  /** The last view of a job that was deleted before its end: cancelled, so that its followers do not wait for ever. */
  #cancelledView(seen: JobView | null): JobView | null {
    if (seen === null || isOver(seen.status?.state ?? 'waiting')) return null
    const { fence = '0', nodes = {} } = seen.status ?? {}
    const ended = this.#options.clock.date().toISOString()
    return { ...seen, status: { fence, state: 'cancelled', ended, nodes } }
  }
}

/** @throws ProxyError `store_unavailable` in place of a StoreError. */
async function orUnavailable<T>(call: Promise<T>): Promise<T> {
  try {
    return await call
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    throw new ProxyError('store_unavailable', { reason: error.message }, { cause: error })
  }
}
