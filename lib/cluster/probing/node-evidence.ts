import { Contacts } from '../../fleet/contacts.ts'
import type { InstanceRecord, LoadSummary } from '../../fleet/instance.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry } from '../../store/store.ts'
import { readInstance, readLoad } from '../records.ts'
import { type Answers, Inquiry } from './inquiry.ts'
import { PeerReports } from './peer-reports.ts'
import { type ProbeOnce, probeOnce } from './probe-once.ts'
import type { Evidence } from './prober.ts'
import { type CutOff, Reach } from './reach.ts'
import { Respondent } from './respondent.ts'

interface NodeEvidenceOptions extends Runtime {
  readonly keys: KeyLayout
  readonly snapshot: { get(): Snapshot }
  readonly instance: { readonly name: string }
  readonly contacts?: Contacts
  /** Replaces the probe, in tests. */
  readonly probe?: ProbeOnce
  readonly instances: () => readonly InstanceRecord[]
  /** Publishes the record and the load summary of this instance now. */
  readonly publish: () => void
  /** Called when `cutOff` has changed. */
  readonly changed: () => void
}

/** Milliseconds for which a failed request counts: without further requests nothing else would outdate it. */
const failureCountsMs = 30_000

/**
 * Evidence of which nodes are reached, besides the leader's advice: requests and probes of this instance, and reports of the
 * other instances.
 */
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

  /** Set while this instance reaches no node and another instance does. */
  get cutOff(): CutOff | null {
    return this.#reach.cutOff
  }

  /** Whether the last request of this instance to a node failed, less than 30 s ago, or its last probe while it reached no node. */
  hasFailed(node: string): boolean {
    const { answeredAt, probedAt, failedAt } = this.contacts.of(node)
    const isRecent = failedAt > this.#options.clock.now() - failureCountsMs
    return (isRecent && failedAt > Math.max(answeredAt, probedAt)) || this.#reach.unreached.includes(node)
  }

  /** When another instance last reported an answer of a node, in monotonic milliseconds; null: never. */
  peersReached(node: string): number | null {
    return this.#peers.of(node)?.at ?? null
  }

  /** See `Inquiry.ask`. */
  ask(nodes: readonly string[]): Promise<Answers> {
    return this.#inquiry.ask(nodes)
  }

  /** The part of this instance's record: an open question. */
  get inRecord(): Pick<InstanceRecord, 'question'> {
    const { question } = this.#inquiry
    return question ? { question } : {}
  }

  /** The part of this instance's load summary: nodes that it reached, and answers to questions. */
  get inLoad(): Pick<LoadSummary, 'reached' | 'answers'> {
    const reached = this.contacts.windows()
    const answers = this.#respondent.answers()
    return { ...(Object.keys(reached).length > 0 && { reached }), ...(answers && { answers }) }
  }

  /** Reads what changed in the store. */
  follow(changed: ReadonlySet<string>, entries: ReadonlyMap<string, Entry>): void {
    const { keys, instance, snapshot } = this.#options
    for (const key of changed) {
      const { folder, name = '' } = keys.parse(key) ?? {}
      if (folder === 'nodes') this.#peers.keepOnly(snapshot.get().nodes)
      if (name !== instance.name) this.#hear(folder, name, entries.get(key) ?? null)
    }
  }

  /** Reads a record or a load summary of another instance; null: it is gone. */
  #hear(folder: string | undefined, id: string, entry: Entry | null): void {
    if (folder === 'instances') this.#respondent.observe(id, entry?.lease ? readInstance(entry.value) : null)
    if (folder !== 'load') return
    const load = entry && readLoad(entry)
    this.#peers.observe(id, load)
    for (const node of this.#inquiry.observe(id, load)) this.#peers.reached(node, id)
  }
}
