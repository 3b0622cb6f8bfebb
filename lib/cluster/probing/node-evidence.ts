import { Contacts } from '../../fleet/contacts.ts'
import type { InstanceRecord, LoadSummary } from '../../fleet/instance.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { Keys } from '../../store/keys.ts'
import type { Entry } from '../../store/store.ts'
import { readInstance, readLoad } from '../records.ts'
import { type Answers, Inquiry } from './inquiry.ts'
import { PeerReports } from './peer-reports.ts'
import { type ProbeOnce, probeOnce } from './probe-once.ts'
import type { Evidence } from './prober.ts'
import { type CutOff, Reach } from './reach.ts'
import { Respondent } from './respondent.ts'

interface NodeEvidenceOptions extends Runtime {
  readonly keys: Keys
  readonly snapshot: { get(): Snapshot }
  readonly instance: { readonly name: string }
  readonly contacts?: Contacts
  /** Another way to probe a node. */
  readonly probe?: ProbeOnce
  readonly instances: () => readonly InstanceRecord[]
  /** Publishes our record and load summary now. */
  readonly publish: () => void
  /** Called when `cutOff` has changed. */
  readonly changed: () => void
}

/** Milliseconds for which a failed request says that a node is down: without requests nothing would take that back. */
const failureCountsMs = 30_000

/** What is known of the ways to the nodes besides a leader's advice: by this instance's own traffic, and by the others'. */
export class NodeEvidence implements Evidence {
  readonly contacts: Contacts
  readonly #options: NodeEvidenceOptions
  readonly #peers: PeerReports
  readonly #inquiry: Inquiry
  readonly #respondent: Respondent
  readonly #reach: Reach

  constructor(options: NodeEvidenceOptions) {
    const { clock, instance } = options
    this.#options = options
    this.contacts = options.contacts ?? new Contacts(clock)
    this.#peers = new PeerReports(clock)
    const shared = {
      ...options,
      id: instance.name,
      snapshot: () => options.snapshot.get(),
      contacts: this.contacts,
      probe:
        options.probe ??
        ((...[spec, timeoutMs, signal]: Parameters<ProbeOnce>) => probeOnce(spec, clock, timeoutMs, signal)),
    }
    this.#inquiry = new Inquiry(shared)
    this.#respondent = new Respondent(shared)
    this.#reach = new Reach({ ...shared, peers: this.#peers, inquiry: this.#inquiry })
  }

  start(): void {
    this.#reach.start()
  }

  /** Takes effect before it returns. */
  stop(): void {
    this.#reach.stop()
    this.#respondent.stop()
  }

  /** Set while this instance reaches no node and another one does. */
  get cutOff(): CutOff | null {
    return this.#reach.cutOff
  }

  /** Whether what this instance met at a node last was a failure: of a request a moment ago, or of its own look at the nodes. */
  hasFailed(node: string): boolean {
    const { answeredAt, probedAt, failedAt } = this.contacts.of(node)
    const isRecent = failedAt > this.#options.clock.now() - failureCountsMs
    return (isRecent && failedAt > Math.max(answeredAt, probedAt)) || this.#reach.unreached.includes(node)
  }

  /** When another instance told last that a node answers it, in monotonic milliseconds; null: never. */
  peersReached(node: string): number | null {
    return this.#peers.of(node)?.at ?? null
  }

  /** See `Inquiry.ask`. */
  ask(nodes: readonly string[]): Promise<Answers> {
    return this.#inquiry.ask(nodes)
  }

  /** What this instance's record says of it. */
  get inRecord(): Pick<InstanceRecord, 'question'> {
    const { question } = this.#inquiry
    return question ? { question } : {}
  }

  /** What this instance's load summary says of it. */
  get inLoad(): Pick<LoadSummary, 'reached' | 'answers'> {
    const reached = this.contacts.windows()
    const answers = this.#respondent.answers()
    return { ...(Object.keys(reached).length > 0 && { reached }), ...(answers && { answers }) }
  }

  /** Takes note of what changed in the store. */
  follow(changed: ReadonlySet<string>, entries: ReadonlyMap<string, Entry>): void {
    const { keys, instance, snapshot } = this.#options
    for (const key of changed) {
      const { folder, name = '' } = keys.parse(key) ?? {}
      if (folder === 'nodes') this.#peers.keepOnly(snapshot.get().nodes)
      if (name !== instance.name) this.#hear(folder, name, entries.get(key) ?? null)
    }
  }

  /** What another instance tells; null: it is gone. */
  #hear(folder: string | undefined, id: string, entry: Entry | null): void {
    if (folder === 'instances') this.#respondent.observe(id, entry?.lease ? readInstance(entry.value) : null)
    if (folder !== 'load') return
    const load = entry && readLoad(entry)
    this.#peers.observe(id, load)
    for (const node of this.#inquiry.observe(id, load)) this.#peers.reached(node, id)
  }
}
