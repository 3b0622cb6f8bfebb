import type { InstanceRecord } from '../../fleet/instance.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry, Store } from '../../store/store.ts'
import { Controller } from '../leader/controller.ts'
import { Election } from './election.ts'
import { Handover, holdsBack } from './handover.ts'

type ControllerOptions = ConstructorParameters<typeof Controller>[0]

interface LeadershipOptions extends Runtime {
  readonly store: Store
  readonly keys: KeyLayout
  readonly instance: { readonly name: string }
  readonly ttlMs: number
  /** Whether this instance may become the leader: registered, not draining, not cut off. */
  readonly mayLead: () => boolean
  /** Whether this instance is registered. */
  readonly isRegistered: () => boolean
  readonly instances: () => readonly InstanceRecord[]
  readonly evidence: ControllerOptions['evidence']
  readonly ask: ControllerOptions['ask']
  readonly view: ControllerOptions['view']
  readonly learned: ControllerOptions['learned']
  /** Publishes this instance's record after its role or successor changed. */
  readonly publish: () => void
}

/** Milliseconds for which an instance that was not fit to lead does not campaign. */
const restMs = 10_000

/** Runs the election for this instance, and the leader's work while it leads. */
export class Leadership {
  readonly #options: LeadershipOptions
  readonly #election: Election
  readonly #handover: Handover
  #controller: Controller | null = null
  /** Until when this instance does not campaign, in monotonic milliseconds. */
  #restsUntil = 0
  /** The last leader key that was seen. */
  #last: Entry | null = null

  constructor(options: LeadershipOptions) {
    const { keys, clock, instance, instances, mayLead, isRegistered, publish } = options
    this.#options = options
    this.#handover = new Handover({ clock, publish })
    this.#election = new Election({
      ...options,
      key: keys.leader,
      id: instance.name,
      mayLead: () => mayLead() && !this.#isResting && !holdsBack(instance.name, instances()),
      isRegistered: (id) =>
        id === instance.name ? isRegistered() : instances().some((each) => each.id === id),
      changed: () => this.#startOrStopWork(),
    })
  }

  start(): void {
    this.#election.start()
  }

  /** Hands leadership over. */
  async stop(): Promise<void> {
    this.#handover.stop()
    await this.#election.stop()
  }

  isLeader(): boolean {
    return this.#election.isLeader()
  }

  /** See `Election.isProven`. */
  get isProven(): boolean {
    return this.#election.isProven
  }

  /** This instance's own term while it leads. */
  get fence(): bigint | null {
    return this.#election.fence
  }

  /** The instance to which this one hands leadership now; null: to none. */
  get successor(): string | null {
    return this.#handover.successor
  }

  /** Called when something changed that decides whether this instance may lead. */
  poke(): void {
    this.#election.poke()
  }

  /** See `Cluster.stepDown`. */
  async stepDown(successor: string | null = null): Promise<void> {
    if (successor !== null) await this.#handover.announce(successor)
    await this.#election.stepDown()
  }

  /** Notes the leader key as of `revision`. */
  observe(leader: Entry | null, revision: bigint): void {
    if (leader && leader.created !== this.#last?.created) this.#logLeader(leader)
    this.#election.observe(leader, revision)
  }

  /** Notes this instance's record as the store has it. */
  observeOwn(record: InstanceRecord | null): void {
    this.#handover.observe(record)
  }

  /** Runs the leader's work now, since the store changed; with `jobs`, the job runner as well. */
  follow(jobs: boolean): void {
    this.#controller?.poke()
    if (jobs) this.#controller?.pokeJobs()
  }

  /** See `Prober.requestProbe`. */
  requestProbe(node: string): void {
    this.#controller?.requestProbe(node)
  }

  #logLeader(seen: Entry): void {
    const { metrics, log } = this.#options
    const former = this.#last?.value ?? null
    const { value: leader, created: fence } = seen
    this.#last = seen
    metrics.fence.set(Number(fence))
    if (former !== null) metrics.leaderChanges.inc()
    if (former === null) log.info('leader found', { leader, fence })
    else if (former === leader) log.info('leader elected again', { leader, fence })
    else log.warn('leader changed', { leader, former, fence })
  }

  /** Called synchronously by the election whenever leadership was won or lost. */
  #startOrStopWork(): void {
    const { metrics, publish } = this.#options
    const fence = this.#election.fence
    metrics.isLeader.set(fence === null ? 0 : 1)
    this.#controller?.stop()
    this.#controller = null
    publish()
    if (fence === null) return
    const guarded: ControllerOptions['guarded'] = (operations) => this.#election.guarded(operations)
    this.#controller = new Controller({
      ...this.#options,
      fence,
      guarded,
      successors: () => this.#successors(),
      handOver: (successor) => this.#yield(successor),
    })
    this.#controller.start()
  }

  /** Other instances that can lead. */
  #successors(): string[] {
    const { instance, instances } = this.#options
    return instances().flatMap(({ id, draining }) => (id === instance.name || draining ? [] : [id]))
  }

  /** Hands leadership over because this instance is not fit to lead, and leaves the others time to win. */
  async #yield(successor: string | null): Promise<void> {
    this.#restsUntil = this.#options.clock.now() + restMs
    await this.stepDown(successor)
  }

  get #isResting(): boolean {
    return this.#options.clock.now() < this.#restsUntil && this.#successors().length > 0
  }
}
