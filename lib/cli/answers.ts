import type { Fault } from '../fleet/contents.ts'
import type { Term } from '../fleet/instance.ts'

/** What the admin API answers, as far as the CLI reads it: field names are those on the wire. */

export interface NodeAnswer {
  readonly name: string
  readonly url: string
  readonly state: string
  readonly health: 'up' | 'slow' | 'down' | 'unknown'
  readonly reason: string
  /** ISO date of the last change of health. */
  readonly since: string | null
  readonly weight: number
  /** The least of its models in memory, as configured or learned. */
  readonly slots: number
  /** Of each model in memory; an instance of an older version does not tell. */
  readonly slots_by_model?: Readonly<Record<string, number>>
  readonly labels: Readonly<Record<string, string>>
  /** Who registered it. */
  readonly source: 'operator' | 'agent'
  readonly version: string
  /** Requests running on it, from all instances. */
  readonly running: number
  readonly running_by_instance: Readonly<Record<string, number>>
  readonly breaker: 'closed' | 'open' | 'half-open'
  readonly loaded: readonly string[]
  readonly models: readonly string[]
  readonly vram_bytes: number
  /**
   * What is wrong with its document as it is stored: its last valid version is in force, if there was one. An instance of an
   * older version does not tell.
   */
  readonly rejected?: readonly Fault[]
}

/** A node that requests avoid. */
export interface UnwellAnswer {
  readonly name: string
  readonly health: NodeAnswer['health']
  readonly breaker: NodeAnswer['breaker']
  readonly since: string | null
  readonly reason: string
}

export interface DepartedAnswer {
  readonly name: string
  readonly since: string
  readonly reason: string
  readonly models: readonly string[]
}

export interface NodeList {
  readonly nodes: readonly NodeAnswer[]
}

export interface ModelAnswer {
  readonly name: string
  /** The model that answers under this name, where a route gives it one; an instance of an older version does not tell. */
  readonly alias_of?: string | null
  readonly size: number
  readonly digest: string
  readonly modified_at: string
  readonly nodes: readonly string[]
  /** Those of them that have an older copy; an instance of an older version does not tell. */
  readonly older_on?: readonly string[]
  readonly loaded_on: readonly string[]
  readonly parameter_size: string
  readonly quantization: string
}

export interface ModelList {
  readonly models: readonly ModelAnswer[]
}

export interface ModelDetail extends ModelAnswer {
  readonly family: string
  readonly capabilities: readonly string[]
  /** By node: those that have it on disk or in memory. */
  readonly copies: readonly CopyAnswer[]
}

export interface CopyAnswer {
  readonly node: string
  readonly health: NodeAnswer['health']
  /** Null when it is not on disk. */
  readonly disk: {
    readonly digest: string
    readonly size: number
    readonly modified_at: string
    readonly newest: boolean
  } | null
  /** Null when it is not in memory. */
  readonly memory: Pick<
    LoadedAnswer,
    'digest' | 'size' | 'size_vram' | 'context_length' | 'expires_at'
  > | null
}

export interface LoadedAnswer {
  readonly name: string
  readonly node: string
  readonly size: number
  readonly size_vram: number
  readonly context_length: number
  readonly expires_at: string
  readonly digest: string
}

export interface JobAnswer {
  readonly id: string
  readonly action: string
  readonly model: string
  readonly state: 'waiting' | 'running' | 'done' | 'failed' | 'cancelled'
  /** ISO date. */
  readonly created: string
  /** ISO date; null until it ended. */
  readonly ended: string | null
  readonly tenant: string
  readonly nodes: Readonly<Record<string, JobNodeAnswer>>
}

interface JobNodeAnswer {
  readonly state: JobAnswer['state']
  readonly status: string
  /** Bytes. */
  readonly completed: number
  readonly total: number
  readonly error: string | null
}

export interface JobList {
  readonly jobs: readonly JobAnswer[]
}

export interface KeyAnswer {
  readonly id: string
  readonly tenant: string
  readonly scopes: readonly string[]
  readonly models: readonly string[]
  /** What it may set otherwise than the config's `callers` say. */
  readonly options?: Readonly<Record<string, string | number>>
  /** Priority class; an instance of an older version does not tell. */
  readonly class?: string | null
  readonly expires: string | null
  /** See StoredAnswer. */
  readonly warnings?: readonly string[]
}

export interface RejectedDocument {
  readonly key: string
  readonly errors: readonly Fault[]
}

export interface InstanceAnswer {
  readonly id: string
  readonly version: string
  readonly data: string
  readonly admin: string
  /** ISO date. */
  readonly started: string
  readonly role: string
  readonly draining: boolean
  /** Store revision of what is in force on it. */
  readonly revision: string
  readonly running: number
  readonly queued: number
}

export interface InstanceList {
  readonly instances: readonly InstanceAnswer[]
}

/** A document as it is stored, and the verdict on it. */
export interface StoredAnswer {
  /** Null when there is none. */
  readonly text: string | null
  /** Its revision: what a change of it has seen. */
  readonly modified: string | null
  readonly ok: boolean
  readonly errors: readonly Fault[]
  /** What is in force and yet worth a second look; an instance of an older version does not tell. */
  readonly warnings?: readonly string[]
}

export interface ConfigAnswer extends StoredAnswer {
  /** What is in force, with every default. */
  readonly effective: Readonly<Record<string, unknown>>
  /** Keys in the store that no instance reads; an instance of an older version does not tell. */
  readonly unknown_keys?: readonly RejectedDocument[]
}

export interface RouteAnswer extends StoredAnswer {
  readonly name: string
  /** Null when no version of it was ever good. */
  readonly in_force: {
    readonly match: { readonly model: string; readonly tenant?: string }
    readonly model?: string
    readonly fallback: readonly string[]
    readonly nodes: Readonly<Record<string, string>>
    readonly class?: string
  } | null
}

export interface RouteTestAnswer {
  readonly asked: string
  readonly tenant: string
  readonly route: string | null
  /** The models that may answer, in order. */
  readonly wanted: readonly string[]
  /** What the route demands of nodes; an instance of an older version does not tell. */
  readonly labels?: Readonly<Record<string, string>>
  /** Priority class; an instance of an older version does not tell. */
  readonly class?: string
  readonly model: string | null
  readonly nodes: readonly {
    readonly name: string
    /** Why it is passed over; null when it could take the request now. */
    readonly excluded: string | null
    readonly loaded: boolean
    /** Loaded with other options: it would be loaded again. An instance of an older version does not tell. */
    readonly other_variant?: boolean
    readonly running: number
    readonly slots: number
    readonly weight: number
    /** An instance of an older version does not tell. */
    readonly health?: NodeAnswer['health']
    readonly health_reason?: string
  }[]
  /** The context that is asked for; null: the node's own. */
  readonly num_ctx?: number | null
  /** Breakers keep it from most nodes that have the model, so they are not believed. */
  readonly panic?: boolean
  readonly choice: { readonly node: string; readonly reason: string } | null
  readonly refusal: 'no-model' | 'down' | 'full' | null
  /** What it would have to expect; an instance of an older version does not tell. */
  readonly outlook?: OutlookAnswer
}

/** A node as a place for a request: the terms of its cost, and their weighted sum. */
export interface CandidateAnswer {
  readonly node: string
  readonly state: string
  readonly start_seconds: number
  readonly prefill_seconds: number
  readonly decode_seconds: number
  readonly externality_seconds: number
  readonly eviction_seconds: number
  readonly cost_seconds: number
}

/** What a request has to expect. */
export interface OutlookAnswer {
  /** Why it would be refused at once, if it would; an instance of an older version does not tell. */
  readonly refused?: string | null
  /** `slot` or `load`; null when it could start now, or when no node can take it. */
  readonly waits_for: string | null
  readonly starts_in_seconds: number | null
  /** Nodes that could serve it; null where that was not looked for, as far back in a list. */
  readonly places: number | null
  /** The best of them, the cheapest first. */
  readonly candidates: readonly CandidateAnswer[] | null
}

/** A node that cannot take a request now. */
export interface BarredAnswer {
  readonly node: string
  readonly excluded: string | null
  readonly health: NodeAnswer['health']
  readonly health_reason: string
}

export interface WaitingAnswer extends OutlookAnswer {
  /** The first of the nodes that cannot take it, and how many; null or absent as `places`. */
  readonly barred?: readonly BarredAnswer[] | null
  readonly barred_total?: number | null
  readonly id: string
  readonly model: string
  /** Load-time options as JSON; "" for the node's own. */
  readonly variant: string
  readonly tenant: string
  readonly class: string
  readonly waited_seconds: number
  /** Where it is planned to go; null while there is no plan. */
  readonly node: string | null
}

export interface QueueAnswer {
  readonly instance: string
  readonly total: number
  readonly by_class: Readonly<Record<string, number>>
  readonly by_tenant: Readonly<Record<string, number>>
  /** The first of them, in order. */
  readonly waiting: readonly WaitingAnswer[]
}

export interface WaitingDetail extends WaitingAnswer {
  readonly instance: string
  readonly position: number
  /** Estimated. */
  readonly prompt_tokens: number
  readonly max_tokens: number | null
  readonly labels: Readonly<Record<string, string>>
  readonly failed_on: readonly string[]
}

export interface DecisionAnswer {
  readonly id: string
  /** ISO date. */
  readonly decided: string
  readonly model: string
  readonly tenant: string
  readonly class: string
  readonly node: string | null
  /** Why it was sent there; null when it was sent nowhere. */
  readonly reason: string | null
  /** What came of it; an instance of an older version does not tell. */
  readonly outcome?: string
  readonly waited_seconds?: number
  /** From arrival to the first token. */
  readonly predicted_ttft_seconds: number | null
  /** Null while there is none, when none came, and where nobody can tell, as of a whole answer without the node's timings. */
  readonly actual_ttft_seconds: number | null
  /** The chosen one first. */
  readonly candidates: readonly CandidateAnswer[]
}

export interface StatusAnswer {
  readonly cluster: string
  readonly version: string
  readonly instance: {
    readonly id: string
    readonly role: string
    readonly uptime_seconds: number
    readonly draining: boolean
    /** The instance that reaches nodes while this one reaches none; one of an older version does not tell. */
    readonly cut_off?: string | null
  }
  readonly leader: { readonly id: string; readonly fence: string } | null
  /** The last terms, the newest first; an instance of an older version does not tell. */
  readonly terms?: readonly (Term & { readonly fence: string })[]
  readonly store: {
    readonly kind: string
    readonly ok: boolean
    /** An instance of an older version does not tell. */
    readonly state?: string
    /** What it refuses although it answers; null: nothing. */
    readonly problem?: {
      readonly kind: string
      readonly since: string
      readonly reason: string
      readonly todo: string
    } | null
    readonly last_contact_seconds: number | null
    readonly round_trip_ms: number | null
    readonly members: readonly { readonly name: string; readonly endpoint: string; readonly ok: boolean }[]
  }
  /** Whose health and weights are in force. */
  readonly advice: 'leader' | 'own'
  readonly config: {
    /** Where the documents in force come from; `snapshot` is the one on the instance's disk. */
    readonly source: 'store' | 'snapshot' | 'none'
    /** Why what the store says is not put in force; null when it is. */
    readonly suspect: string | null
    readonly revision: string
    /** Revision of the last change an operator made, and what each instance has in force. */
    readonly stored: string
    readonly active: readonly { readonly id: string; readonly revision: string }[]
    /** The first of them, and how many there are; an instance of an older version tells all, and no number. */
    readonly rejected: readonly RejectedDocument[]
    readonly rejected_total?: number
    /** Documents that are in force and yet worth a second look; an instance of an older version does not tell. */
    readonly warned?: readonly { readonly key: string; readonly warnings: readonly string[] }[]
  }
  readonly nodes: {
    readonly total: number
    readonly up: number
    readonly down: number
    /** An instance of an older version does not tell. */
    readonly slow?: number
    readonly cordoned: number
    /** Documents of nodes that are not in force as they are stored; an instance of an older version does not tell. */
    readonly rejected?: number
    /** Nodes that requests avoid, and the first of them; an instance of an older version does not tell. */
    readonly unwell?: number
    readonly unwell_first?: readonly UnwellAnswer[]
    /** Nodes of agents that are not registered any more; an instance of an older version does not tell. */
    readonly departed?: number
    readonly departed_first?: readonly DepartedAnswer[]
  }
  readonly models: {
    readonly on_disk: number
    readonly loaded: number
    /** Models whose copies differ, and the first of them; an instance of an older version does not tell. */
    readonly differing?: number
    readonly differing_first?: readonly { readonly name: string; readonly older_on: readonly string[] }[]
  }
  readonly instances: number
  readonly requests: { readonly running: number; readonly queued: number }
  /** What an operator should know; an instance of an older version does not tell. */
  readonly warnings?: readonly string[]
}
