/** `R/instances/<id>`: one llamero process, under its own lease. */
export interface InstanceRecord {
  readonly id: string
  /** Random per process: tells a restart from a second process with the same name. */
  readonly boot: string
  readonly version: string
  /** Where it serves; for people and for peers. */
  readonly data: string
  readonly admin: string
  /** ISO date. */
  readonly started: string
  readonly role: 'leader' | 'standby'
  readonly draining: boolean
  /** Store revision of the snapshot in force on it, in decimal. */
  readonly revision: string
}

/** `R/load/<id>`: what an instance is doing now, under the same lease. */
export interface LoadSummary {
  /** Requests running, by node. */
  readonly running: Readonly<Record<string, number>>
  readonly queued: number
}

/** `R/status/<path>`: the verdict on an operator's document. */
export interface Verdict {
  readonly fence: string
  readonly ok: boolean
  readonly errors: readonly {
    readonly path: string
    readonly line: number | null
    readonly message: string
    readonly hint?: string
  }[]
  /** Revision of the text in the store, and of the version in force (null: none is). */
  readonly stored: string
  readonly active: string | null
}
