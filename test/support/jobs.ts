import {
  isOver,
  type JobSpec,
  type JobState,
  type Jobs,
  type JobView,
  type NodeProgress,
} from '../../lib/fleet/job.ts'
import type { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import { ProxyError } from '../../lib/shared/errors.ts'

/** A node's part in a job, of which a test says only what matters. */
export function progress(sketch: Partial<NodeProgress> = {}): NodeProgress {
  return { state: 'running', status: '', layers: {}, error: null, code: null, ...sketch }
}

const paths: Partial<Record<JobSpec['action'], string>> = { load: 'generate', unload: 'generate' }

/**
 * The jobs of a cluster of one instance, in memory. Carried out by the test, with `report` or `outcome`, or by
 * asking the nodes of the snapshot for real when `works` is set.
 */
export class FakeJobs implements Jobs {
  works = false
  /** When set, what every job comes to at once. */
  outcome: Record<string, NodeProgress> | null = null
  readonly #snapshot: CurrentSnapshot
  readonly #jobs = new Map<string, JobView>()
  readonly #listeners = new Map<string, Set<(job: JobView) => void>>()

  constructor(snapshot: CurrentSnapshot) {
    this.#snapshot = snapshot
  }

  submit(spec: Omit<JobSpec, 'created' | 'cancelled'>): Promise<string> {
    const id = `job-${this.#jobs.size + 1}`
    const whole = { ...spec, created: '2026-01-01T00:00:00Z', cancelled: false }
    this.#jobs.set(id, { id, spec: whole, status: null })
    if (this.outcome) this.report(id, this.outcome)
    if (this.works) void this.#work(id, whole)
    return Promise.resolve(id)
  }

  get(id: string): JobView | null {
    return this.#jobs.get(id) ?? null
  }

  list(): readonly JobView[] {
    return [...this.#jobs.values()].reverse()
  }

  /** How many callers follow a job. */
  followers(id: string): number {
    return this.#listeners.get(id)?.size ?? 0
  }

  follow(id: string, listener: (job: JobView) => void): () => void {
    const listeners = this.#listeners.get(id) ?? new Set()
    this.#listeners.set(id, listeners.add(listener))
    listener(this.#known(id))
    return () => void listeners.delete(listener)
  }

  async cancel(id: string): Promise<void> {
    const { spec } = this.#known(id)
    const nodes = spec.nodes.map((name) => [name, progress({ state: 'cancelled' })])
    this.report(id, Object.fromEntries(nodes), 'cancelled')
  }

  /** What a leader would have written next: the job's state follows from its nodes' where it is not said. */
  report(id: string, nodes: Record<string, NodeProgress>, state: JobState = stateOf(nodes)): void {
    const ended = isOver(state) ? '2026-01-01T00:01:00Z' : null
    const job = { ...this.#known(id), status: { fence: '1', state, ended, nodes } }
    this.#jobs.set(id, job)
    for (const listener of this.#listeners.get(id) ?? []) listener(job)
  }

  #known(id: string): JobView {
    const job = this.#jobs.get(id)
    if (!job) throw new ProxyError('not_found', { kind: 'job', name: id })
    return job
  }

  async #work(id: string, { action, body, nodes }: JobSpec): Promise<void> {
    const reports: Record<string, NodeProgress> = Object.fromEntries(nodes.map((name) => [name, progress()]))
    const say = (name: string, sketch: Partial<NodeProgress>) => {
      reports[name] = { ...progress(reports[name]), ...sketch }
      this.report(id, { ...reports })
    }
    const ask = async (name: string) => {
      const url = this.#snapshot.get().nodes.get(name)?.spec.url
      const response = await fetch(`${url}/api/${paths[action] ?? action}`, {
        method: action === 'delete' ? 'DELETE' : 'POST',
        body: JSON.stringify(body),
      })
      const code = response.ok ? null : response.status
      const lines = (await response.text()).split('\n').filter((line) => line !== '')
      for (const line of lines) say(name, heard(JSON.parse(line), reports[name] ?? progress(), code))
      if (response.ok && reports[name]?.state === 'running') say(name, { state: 'done', status: 'success' })
    }
    await Promise.all(nodes.map(ask))
  }
}

interface Line {
  readonly status?: string
  readonly digest?: string
  readonly total?: number
  readonly completed?: number
  readonly error?: string
}

function heard(line: Line, known: NodeProgress, code: number | null): Partial<NodeProgress> {
  const { status = known.status, digest, total = 0, completed = 0, error } = line
  if (error !== undefined) return { state: 'failed', error, code }
  return { status, layers: digest ? { ...known.layers, [digest]: { total, completed } } : known.layers }
}

function stateOf(nodes: Record<string, NodeProgress>): JobState {
  const states = Object.values(nodes).map(({ state }) => state)
  if (!states.every(isOver)) return 'running'
  return states.every((state) => state === 'done') ? 'done' : 'failed'
}
