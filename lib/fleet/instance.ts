/** `R/instances/<id>`: one llamero process, under its own lease. */
export interface InstanceRecord {
  readonly id: string
  /** Random per process: tells a restart from a second process with the same name. */
  readonly boot: string
  readonly version: string
  /** Host name of its machine; left out by older versions. */
  readonly host?: string
  /** Where it serves; for people and for peers. */
  readonly data: string
  readonly admin: string
  /** ISO date. */
  readonly started: string
  readonly role: 'leader' | 'standby'
  readonly draining: boolean
  /** The instance that is to lead next: every other instance waits while a record names it. */
  readonly successor: string | null
  /** Its question to the other instances; absent when it has none. */
  readonly question?: Question
  /** Store revision of the snapshot in force on it, in decimal. */
  readonly revision: string
}

/** `R/state/instances/<id>`: an instance that was registered; its own record ends with its lease. */
export interface RememberedInstance {
  readonly boot: string
  /** Host name of its machine; empty for older versions of llamero. */
  readonly host: string
  /** Since when it is not registered (ISO date), and whether it was stopped or its lease ran out; null while it is. */
  readonly ended: { readonly since: string; readonly how: 'stopped' | 'lost' } | null
}

/** Which of these nodes does another instance reach? Asked by an instance that does not reach them itself. */
export interface Question {
  readonly id: string
  readonly nodes: readonly string[]
  /** Set when nodes accept the connections of the asking instance and answer nothing: only answered probes count. */
  readonly answered?: true
}

/** `R/history/<fence>`: one term of a leader. Dates are ISO. */
export interface Term {
  readonly instance: string
  readonly since: string
  /** When the next term began; null while it lasts. */
  readonly until: string | null
  /** Why it ended, as the next leader saw it; null when unknown. */
  readonly why: string | null
}

/** `R/agents/<name>`: one agent beside an Ollama, under the agent's lease. */
export interface AgentRecord {
  /** Of the node it registers. */
  readonly name: string
  /** The node's URL. */
  readonly announce: string
  /** ISO date. */
  readonly since: string
  /** Whether the node is registered as the agent announces it. */
  readonly registered: boolean
  /** Why it is not, when the local Ollama is the reason. */
  readonly reason?: string
  /** The agent was stopped cleanly; its record says so until its lease ends. */
  readonly stopped?: boolean
}

/** Milliseconds between two load summaries of an instance, at least. */
export const summaryPeriodMs = 1000

/** `R/load/<id>`: what an instance is doing now, under the same lease. */
export interface LoadSummary {
  /** Requests running, by node. */
  readonly running: Readonly<Record<string, number>>
  /** Nodes that it has a model loaded on just now; left out when there are none. */
  readonly loading?: readonly string[]
  /** By node, what the instance needs the node for; left out when it needs none. */
  readonly claims?: Readonly<Record<string, NodeClaim>>
  readonly queued: number
  /** By node, a number that moves when the node has answered the instance again; left out when none has of late. */
  readonly reached?: Readonly<Record<string, number>>
  /** By asking instance, the nodes of its question that this one reached when asked; left out when none asks. */
  readonly answers?: Readonly<
    Record<string, { readonly question: string; readonly reached: readonly string[] }>
  >
}

/**
 * An instance asks the others to hold their requests on a node until a model is loaded there. Ollama unloads a model only
 * once that is idle: while other instances keep it busy, a load and all requests for the model wait on the node.
 */
export interface NodeClaim {
  /** Canonical name of the model that is to be loaded. */
  readonly model: string
  /** Since when a load or the first request waits, in milliseconds of Unix time. The oldest claim goes first. */
  readonly since: number
  /** The models that it takes the place of; left out: Ollama chooses them, so every other model is held. */
  readonly victims?: readonly string[]
}

/** A load summary of these parts; empty ones are left out. */
export function loadSummaryOf(
  parts: Required<Pick<LoadSummary, 'running' | 'loading' | 'claims' | 'queued'>>,
): LoadSummary {
  const { running, loading, claims, queued } = parts
  return {
    running,
    ...(loading.length > 0 && { loading }),
    ...(Object.keys(claims).length > 0 && { claims }),
    queued,
  }
}

/** What a node is held for. */
export interface NodeHold {
  readonly model: string
  /** The models that get no new requests meanwhile; null: every model but that one. */
  readonly victims: readonly string[] | null
}

/** What all instances do with the nodes, as far as it concerns this one. */
export interface Elsewhere {
  /** What other instances do with a node: have requests running there, or have a model loaded. */
  readonly uses: ReadonlyMap<string, 'runs' | 'loads'>
  /** By node, for claims of any instance. */
  readonly holds: ReadonlyMap<string, NodeHold>
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
  /** What is in force and yet worth a second look; left out when nothing is. */
  readonly warnings?: readonly string[]
  /** Revision of the text in the store, and of the version in force (null: none is). */
  readonly stored: string
  readonly active: string | null
}
