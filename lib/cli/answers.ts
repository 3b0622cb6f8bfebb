/** What the admin API answers, as far as the CLI reads it: field names are those on the wire. */

export interface NodeAnswer {
  readonly name: string
  readonly url: string
  readonly state: string
  readonly health: 'up' | 'down' | 'unknown'
  readonly reason: string
  /** ISO date of the last change of health. */
  readonly since: string | null
  readonly weight: number
  readonly slots: number
  readonly labels: Readonly<Record<string, string>>
  readonly version: string
  /** Requests running on it, from all instances. */
  readonly running: number
  readonly running_by_instance: Readonly<Record<string, number>>
  readonly breaker: 'closed' | 'open' | 'half-open'
  readonly loaded: readonly string[]
  readonly models: readonly string[]
  readonly vram_bytes: number
}

export interface NodeList {
  readonly nodes: readonly NodeAnswer[]
}

export interface ModelAnswer {
  readonly name: string
  readonly size: number
  readonly digest: string
  readonly modified_at: string
  readonly nodes: readonly string[]
  readonly loaded_on: readonly string[]
  readonly parameter_size: string
  readonly quantization: string
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

export interface KeyAnswer {
  readonly id: string
  readonly tenant: string
  readonly scopes: readonly string[]
  readonly models: readonly string[]
  readonly expires: string | null
}

export interface RejectedDocument {
  readonly key: string
  readonly errors: readonly {
    readonly path: string
    readonly line: number | null
    readonly message: string
    readonly hint?: string
  }[]
}

export interface StatusAnswer {
  readonly cluster: string
  readonly version: string
  readonly instance: {
    readonly id: string
    readonly role: string
    readonly uptime_seconds: number
    readonly draining: boolean
  }
  readonly leader: { readonly id: string; readonly fence: string } | null
  readonly store: {
    readonly kind: string
    readonly ok: boolean
    readonly last_contact_seconds: number | null
  }
  readonly config: { readonly revision: string; readonly rejected: readonly RejectedDocument[] }
  readonly nodes: {
    readonly total: number
    readonly up: number
    readonly down: number
    readonly cordoned: number
  }
  readonly models: { readonly on_disk: number; readonly loaded: number }
  readonly instances: number
  readonly requests: { readonly running: number; readonly queued: number }
}
