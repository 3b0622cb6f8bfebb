import type { Contacts } from '../fleet/contacts.ts'
import type { InstanceRecord, LoadSummary } from '../fleet/instance.ts'
import type { Jobs } from '../fleet/job.ts'
import type { NodeView } from '../fleet/node.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { LearnedState } from '../scheduler/learning/learning.ts'
import type { Runtime } from '../shared/runtime.ts'
import { Informer } from '../store/informer.ts'
import type { KeyLayout } from '../store/key-layout.ts'
import type { Entry, Store } from '../store/store.ts'
import { ChangeBatcher } from './config/change-batcher.ts'
import { ClusterView } from './config/cluster-view.ts'
import { type ConfigSource, SnapshotBuilder } from './config/snapshot-builder.ts'
import { SnapshotCache } from './config/snapshot-cache.ts'
import type { SnapshotFile } from './config/snapshot-file.ts'
import { type Rejected, rejectedIn } from './config/stored-documents.ts'
import { Leadership } from './election/leadership.ts'
import { JobQueue } from './jobs/job-queue.ts'
import { Registry } from './membership/registry.ts'
import { FallbackProber } from './probing/fallback-prober.ts'
import { NodeEvidence } from './probing/node-evidence.ts'
import type { CutOff } from './probing/reach.ts'
import { ownFence } from './probing/stored-status.ts'
import { readInstance } from './records.ts'

export interface ClusterOptions extends Runtime {
  readonly store: Store
  readonly keys: KeyLayout
  /** Swapped with every change of the documents, statuses or own observations. */
  readonly snapshot: CurrentSnapshot
  readonly instance: {
    /** Its id: an object name. */
    readonly name: string
    /** Random per process. */
    readonly boot: string
    readonly version: string
    /** Host name of the machine. */
    readonly host?: string
    /** Addresses, for people and peers. */
    readonly data: string
    readonly admin: string
    readonly started: Date
  }
  /** The boot id of the process that had this name before, when that is certainly gone: its record may be replaced. */
  readonly predecessor?: string | null
  /** What its requests meet at the nodes; left out where none are served. */
  readonly contacts?: Contacts
  /** What this instance is doing now. */
  readonly load: () => LoadSummary
  /** What its scheduler learned; left out where none runs. Published while it leads. */
  readonly learned?: () => LearnedState
  /** Keeps the last good configuration for a start without the store; left out when the store is on this disk anyway. */
  readonly disk?: Pick<SnapshotFile, 'load' | 'save'>
  /** Milliseconds until a silent instance is considered gone. */
  readonly ttlMs?: number
}

const defaultTtlMs = 10_000
const nothingLearned: LearnedState = { nodes: {}, outputs: {} }
/** Milliseconds a stop may take when the store does not answer. */
const stopWithinMs = 2000

/**
 * The control side of an instance: follows the store, keeps the snapshot current, registers, takes part in the election
 * and does the leader's work while it leads. Losing the store stops none of the traffic: the snapshot stays.
 *
 *     store -> informer -> batcher -> builder -> snapshot   also without a leader, and from the disk without a store
 *     registry, leadership -> store                         this instance's record; while it leads, statuses and verdicts
 */
export class Cluster {
  /** The store's content: leader, instances, documents. */
  readonly view: ClusterView
  readonly #options: ClusterOptions
  readonly #evidence: NodeEvidence
  readonly #cache: SnapshotCache | null
  readonly #fallback: FallbackProber
  readonly #builder: SnapshotBuilder
  readonly #informer: Informer
  readonly #batcher: ChangeBatcher
  readonly #jobs: JobQueue
  readonly #registry: Registry
  readonly #leadership: Leadership
  #isDraining = false

  constructor(options: ClusterOptions) {
    this.#options = options
    const { keys, disk, instance, load, ttlMs = defaultTtlMs } = options
    const shared = { ...options, ttlMs }

    // What this instance and others find out about the nodes by their own requests.
    this.#evidence = new NodeEvidence({
      ...shared,
      instances: () => this.view.instances(),
      publish: () => this.#registry.poke(),
      changed: () => this.#leadership.poke(),
    })
    const evidence = this.#evidence

    // From the store to the snapshot.
    this.#cache = disk ? new SnapshotCache({ ...shared, disk, collect: () => this.#builder.saved() }) : null
    this.#fallback = new FallbackProber({
      ...shared,
      evidence,
      leads: () => this.isLeader(),
      isStoreLost: () => this.#informer.lost,
      changed: () => this.#builder.refresh(),
    })
    const [cache, fallback, contacts] = [this.#cache, this.#fallback, evidence.contacts]
    this.#builder = new SnapshotBuilder({ ...shared, cache, fallback, contacts })
    this.#informer = new Informer({
      ...shared,
      prefix: keys.root,
      changed: (changed) => this.#batcher.add(changed),
      lost: () => this.#fallback.reconsider(),
    })
    this.#batcher = new ChangeBatcher({
      ...shared,
      informer: this.#informer,
      builder: this.#builder,
      followed: (changed, isOtherHistory) => this.#follow(changed, isOtherHistory),
    })

    // What the admin API and other rooms read.
    const entries = () => this.#informer.entries
    this.view = new ClusterView(entries, keys)
    this.#jobs = new JobQueue({ ...shared, entries, hasLeader: () => this.view.leader() !== null })

    // From this instance to the store.
    this.#registry = new Registry({
      ...shared,
      id: instance.name,
      boot: instance.boot,
      predecessor: options.predecessor ?? null,
      record: () => this.#record(),
      load: () => ({ ...load(), ...evidence.inLoad }),
      registered: () => this.#leadership.poke(),
    })
    this.#leadership = new Leadership({
      ...shared,
      evidence,
      ask: (nodes) => evidence.ask(nodes),
      // An instance that finds its own id in the leader key acts as the leader: two processes of one name must not both.
      mayLead: () => this.#registry.isRegistered && !this.#isDraining && this.cutOff === null,
      isRegistered: () => this.#registry.isRegistered,
      instances: () => this.view.instances(),
      view: () => this.#builder.view(),
      learned: options.learned ?? (() => nothingLearned),
      publish: () => this.#registry.poke(),
    })
  }

  /**
   * Builds the snapshot from the disk, if there is a saved one. Called before `start`, so that requests need not wait for
   * the store.
   */
  async restore(): Promise<void> {
    const saved = (await this.#cache?.load()) ?? null
    if (saved === null) return
    this.#builder.restore(saved)
    this.#fallback.restore(saved.confirmedAt)
    this.#options.store.sharedBy?.(saved.instances)
  }

  /** Returns at once; the snapshot is ready when the store has answered once. */
  start(): void {
    this.#fallback.start()
    this.#informer.start()
    this.#registry.start()
    this.#leadership.start()
    this.#evidence.start()
  }

  /** Hands leadership over, then leaves the registry. Ends within two seconds even when the store does not answer. */
  async stop(): Promise<void> {
    const late = new AbortController()
    const deadline = this.#options.clock.sleep(stopWithinMs, late.signal).catch(() => {})
    await Promise.race([this.#leave(), deadline])
    late.abort()
  }

  async #leave(): Promise<void> {
    this.#evidence.stop()
    this.#batcher.stop()
    this.#fallback.stop()
    this.#builder.stop()
    // The saved statuses are as old as the last heartbeat, not as the last change of them.
    if (this.#fallback.hasHeard) this.#cache?.saveWithin(0)
    const unfollowed = Promise.all([this.#informer.stop(), this.#cache?.stop()])
    await this.#leadership.stop()
    await this.#registry.stop()
    await unfollowed
  }

  /** What follows a change in the store besides the snapshot, which has followed already. */
  #follow(changed: ReadonlySet<string>, isOtherHistory: boolean): void {
    const { keys, metrics, instance, store } = this.#options
    const { entries, revision } = this.#informer
    this.#evidence.follow(changed, entries)
    this.#fallback.follow(changed, entries, this.suspect === null)
    if (isOtherHistory) this.#startOver()
    const own = keys.instance(instance.name)
    if (changed.has(own)) this.#observeOwn(entries.get(own) ?? null, revision)
    if (changed.has(keys.leader)) this.#leadership.observe(this.view.leaderEntry(), revision)
    const instances = this.view.folder('instances').size
    metrics.members.set(instances)
    store.sharedBy?.(instances)
    this.#leadership.follow(this.#jobs.changed(changed))
  }

  /** A term or a record of another history proves nothing: the leader has to win again, and all instances register. */
  #startOver(): void {
    void this.#leadership.stepDown()
    this.#registry.registerAgain()
  }

  #observeOwn(record: Entry | null, revision: bigint): void {
    this.#registry.observe(record, revision)
    this.#leadership.observeOwn(record && readInstance(record.value))
  }

  #record(): InstanceRecord {
    const { name, started, ...rest } = this.#options.instance
    return {
      id: name,
      ...rest,
      started: started.toISOString(),
      role: this.isLeader() ? 'leader' : 'standby',
      draining: this.#isDraining,
      successor: this.#leadership.successor,
      ...this.#evidence.inRecord,
      revision: this.#options.snapshot.get().revision,
    }
  }

  /** The model jobs of the cluster; the leader carries them out. */
  get jobs(): Jobs {
    return this.#jobs
  }

  isLeader(): boolean {
    return this.#leadership.isLeader()
  }

  /**
   * Whether the store confirmed its leadership a moment ago: for actions that no transaction guards, like moving a
   * virtual IP.
   */
  isProvenLeader(): boolean {
    return this.#leadership.isProven
  }

  /** This instance's own term while it leads. */
  get fence(): bigint | null {
    return this.#leadership.fence
  }

  /** Where another process runs that is registered under this instance's name, in a few words; null: there is none. */
  get duplicate(): string | null {
    return this.#registry.rival?.place ?? null
  }

  /** Where the configuration in force comes from: `snapshot` is the one on disk, `none` means nothing is in force yet. */
  get configSource(): ConfigSource {
    return this.#builder.source
  }

  /** The documents that are not in force as they are stored, judged by this instance. */
  rejected(): readonly Rejected[] {
    return rejectedIn(this.#builder.documents)
  }

  /** Why the documents in the store are not in force, in one sentence; null when they are. */
  get suspect(): string | null {
    return this.#builder.suspect
  }

  /** The origin of health and weights: a leader, or this instance's own probes while there is no leader. */
  get advice(): 'leader' | 'own' {
    return this.#fallback.source
  }

  /** Set while this instance reaches no node and another one does. */
  get cutOff(): CutOff | null {
    return this.#evidence.cutOff
  }

  /**
   * Whether this instance itself found that a node is down: by a probe, or by a request that failed there. A report of
   * another instance is advice, which must not take this instance out of service.
   */
  findsDown({ name, health, status }: NodeView): boolean {
    if (health !== 'down' || status === null) return false
    const isProbedHere =
      this.advice === 'own' ? status.fence === ownFence : status.fence === String(this.fence)
    return isProbedHere || this.#evidence.hasFailed(name)
  }

  /** Whether the store has answered once. */
  get synced(): boolean {
    return this.#informer.synced
  }

  /** Whether the store is within reach: its changes arrive as they happen. */
  get following(): boolean {
    return this.#informer.following
  }

  /** `clock.now()` of the last sign of life of the store; null before the first. */
  lastContactMs(): number | null {
    return this.#informer.lastContactMs
  }

  /** Reads what changes by time alone into the metrics. */
  measure(): void {
    const { clock, metrics } = this.#options
    const { lastContactMs, inStepMs } = this.#informer
    if (lastContactMs !== null) metrics.storeSilence.set((clock.now() - lastContactMs) / 1000)
    if (inStepMs !== null) metrics.watchLag.set((clock.now() - inStepMs) / 1000)
    this.#fallback.measure()
    this.#cache?.measure()
    this.#jobs.measure(metrics)
  }

  /** An instance that drains does not lead: it is about to go. */
  setDraining(draining: boolean): void {
    this.#isDraining = draining
    this.#registry.poke()
    if (draining) void this.#leadership.stepDown()
    else this.#leadership.poke()
  }

  /**
   * Hands leadership to another instance, to `successor` if one is named: the others then give it two seconds. Without
   * another instance, this one leads again after a pause.
   *
   * @throws StoreError when the successor cannot be announced; then this instance goes on leading.
   */
  async stepDown(successor: string | null = null): Promise<void> {
    await this.#leadership.stepDown(successor)
  }

  /** Accepts a store that is suspect as it is, for every instance. Rejects with a StoreError. */
  async acceptEmpty(): Promise<void> {
    await this.#builder.accept()
  }

  /**
   * Called when a request contradicted the snapshot: the leader probes the node at once, others wait for its next probe.
   */
  requestProbe(node: string): void {
    this.#leadership.requestProbe(node)
  }
}
