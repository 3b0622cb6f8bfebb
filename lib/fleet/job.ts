/** Actions on models across nodes. `push` and `copy` as Ollama means them; `load` and `unload` concern memory. */
export const jobActions = ['pull', 'push', 'create', 'copy', 'delete', 'load', 'unload'] as const
export type JobAction = (typeof jobActions)[number]

/**
 * `R/jobs/<id>`: what is to be done. Written once by the instance that accepted it, and again by the instance that is asked
 * to cancel it; so the job outlives the caller and both instances.
 */
export interface JobSpec {
  readonly action: JobAction
  /** Canonical name of the model; for `copy`, its source. */
  readonly model: string
  /** The body each node gets, a JSON object without `stream`: Ollama's own, after the policy was applied to it. */
  readonly body: Readonly<Record<string, unknown>>
  /** The nodes it is for, in order. Never empty. */
  readonly nodes: readonly string[]
  /** Nodes that may replace a node with a full disk, in order. */
  readonly spares: readonly string[]
  readonly tenant: string
  /** ISO date. */
  readonly created: string
  readonly cancelled: boolean
}

export const jobStates = ['waiting', 'running', 'done', 'failed', 'cancelled'] as const
export type JobState = (typeof jobStates)[number]

/** Bytes of one layer. */
export interface LayerProgress {
  readonly total: number
  readonly completed: number
}

/** How far a job is on one node. */
export interface NodeProgress {
  readonly state: JobState
  /** The last `status` line of the node's Ollama. */
  readonly status: string
  /** By digest, in the order of appearance. */
  readonly layers: Readonly<Record<string, LayerProgress>>
  /** Why it failed, or what it waits for; null when nothing is wrong. */
  readonly error: string | null
  /** HTTP status of the node's refusal, when the job failed because of it. */
  readonly code: number | null
  /** The spare that replaced the node when its disk was full: the job does not fail with it then. */
  readonly replacedBy?: string
}

/** `R/state/jobs/<id>`: the progress, written by the leader under its fence, at most once a second while it runs. */
export interface JobStatus {
  /** The leader's term, in decimal. */
  readonly fence: string
  readonly state: JobState
  /** ISO date; null until the job ended. */
  readonly ended: string | null
  /** By node name: those of the spec, and the spares that were needed. */
  readonly nodes: Readonly<Record<string, NodeProgress>>
}

/** A job and its progress. */
export interface JobView {
  readonly id: string
  readonly spec: JobSpec
  /** Null until a leader has seen the job. */
  readonly status: JobStatus | null
}

/** The jobs of the cluster, as every instance sees them. The gateway and the admin API ask; the cluster side answers. */
export interface Jobs {
  /**
   * Puts a new job into the store and resolves to its id.
   *
   * @throws ProxyError `store_unavailable`, `no_leader` when no instance could carry it out, `job_too_large`.
   */
  submit(spec: Omit<JobSpec, 'created' | 'cancelled'>): Promise<string>
  get(id: string): JobView | null
  /** Every job that is still kept, the newest first. */
  list(): readonly JobView[]
  /** Calls `listener` with the job now and after each change, until the function it returns is called. */
  follow(id: string, listener: (job: JobView) => void): () => void
  /** Resolves when the cancellation is in the store; nodes stay as they are at that moment. @throws ProxyError `not_found`, `store_unavailable`. */
  cancel(id: string): Promise<void>
}

/** Whether a job, or its part on one node, has ended. */
export function isOver(state: JobState): boolean {
  return state === 'done' || state === 'failed' || state === 'cancelled'
}
