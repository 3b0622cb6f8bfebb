import type { Snapshot } from '../../fleet/snapshot.ts'
import type { LearnedState } from '../../scheduler/learning/learning.ts'
import { ControlLoop } from '../../shared/control-loop.ts'
import type { Runtime } from '../../shared/runtime.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import { batchesOf } from '../../store/limits.ts'
import type { Entry, Operation } from '../../store/store.ts'
import { planRemembered } from '../config/remembered-nodes.ts'
import type { StoredDocuments } from '../config/stored-documents.ts'
import { mergeNotes, type Notes, planVerdicts } from '../config/verdicts.ts'
import { nameStore } from '../config/wipe-guard.ts'
import { JobRunner } from '../jobs/job-runner.ts'
import type { Answers } from '../probing/inquiry.ts'
import type { Evidence } from '../probing/prober.ts'
import { Probers } from '../probing/probers.ts'
import type { Observation, StoredStatus } from '../probing/stored-status.ts'
import { LatenessLimit } from './lateness-limit.ts'
import { planTerms } from './leader-terms.ts'
import { SharedLearning } from './learned-state.ts'
import { planMissing } from './missing-instances.ts'
import { isInventoryComplete, noteMissingTargets } from './missing-targets.ts'
import { noteOlderCopies } from './older-copies.ts'
import { SelfDoubt, type Watched } from './self-doubt.ts'
import { planStates } from './status-writes.ts'
import { noteUnknownClasses } from './unknown-classes.ts'

/** What the leader's work starts from: the snapshot, and the store's content that it was built from. */
interface View {
  readonly snapshot: Snapshot
  readonly documents: StoredDocuments
  /** Why the documents in the store are not in force; null when they are. */
  readonly suspect: string | null
  /** Whether the store may get a uid now. */
  readonly mayName: boolean
  readonly storedStatuses: ReadonlyMap<string, StoredStatus>
  /** Everything in the store, as of `revision`. */
  readonly entries: ReadonlyMap<string, Entry>
  readonly revision: bigint
}

interface ControllerOptions extends Runtime {
  /** The fence of the term. */
  readonly fence: bigint
  readonly instance: { readonly name: string }
  /** Writes as the leader. Returns the revision, or null when this instance is not the leader any more. */
  readonly guarded: (operations: readonly Operation[]) => Promise<bigint | null>
  readonly view: () => View
  readonly evidence: Evidence
  /** Asks the other instances which of the nodes they reach. */
  readonly ask: (nodes: readonly string[]) => Promise<Answers>
  /** Other instances that can lead. */
  readonly successors: () => readonly string[]
  /** Hands leadership to another instance; null: to any. */
  readonly handOver: (successor: string | null) => Promise<void>
  /** What this instance's scheduler learned. */
  readonly learned: () => LearnedState
  readonly keys: KeyLayout
}

const periodMs = 1000
const heartbeatMs = 5000

/**
 * The leader's work for one term: probe the nodes, compute what the store should say, write the difference. A controller
 * keeps no state that matters after its term: the next leader goes on from the store.
 */
export class Controller {
  readonly #options: ControllerOptions
  readonly #probers: Probers
  readonly #doubt: SelfDoubt
  readonly #lateness: LatenessLimit
  readonly #jobs: JobRunner
  readonly #learning: SharedLearning
  readonly #loop: ControlLoop
  readonly #since: Date
  /** Callers of `#refresh` that wait until the status of their node is in the store. */
  readonly #refreshes = new Set<{ readonly key: string; readonly resolve: () => void }>()
  #writtenAt = 0n
  #beats = 0
  #beatAt = Number.NEGATIVE_INFINITY

  constructor(options: ControllerOptions) {
    const { view, clock, random, metrics, evidence } = options
    this.#options = options
    this.#since = clock.date()
    this.#loop = new ControlLoop({
      clock,
      random,
      periodMs: () => periodMs,
      round: (signal) => this.#round(signal),
    })
    this.#probers = new Probers({
      snapshot: () => view().snapshot,
      clock,
      random,
      metrics,
      evidence,
      late: () => this.#lateness.note(),
      changed: () => this.#loop.poke(),
    })
    this.#doubt = new SelfDoubt({ ...options, changed: () => this.#loop.poke() })
    this.#lateness = new LatenessLimit({ ...options, exceeded: () => void this.#yield() })
    this.#learning = new SharedLearning(options)
    this.#jobs = new JobRunner({ ...options, refresh: (node) => this.#refresh(node) })
  }

  start(): void {
    this.#loop.start()
    this.#jobs.start()
  }

  /** Takes effect before it returns: no request and no write begins after it. */
  stop(): void {
    this.#jobs.stop()
    void this.#loop.stop()
    this.#probers.stop()
  }

  /** See `Prober.requestProbe`. */
  requestProbe(node: string): void {
    this.#probers.requestProbe(node)
  }

  /** Runs the next round now. */
  poke(): void {
    this.#loop.poke()
  }

  /** Runs the next round of the job runner now. */
  pokeJobs(): void {
    this.#jobs.poke()
  }

  /**
   * Probes the node. Resolves when the store has the result; a probe that found nothing out leaves the status as it was.
   */
  async #refresh(node: string): Promise<void> {
    await this.#probers.refresh(node)
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#refreshes.add({ key: this.#options.keys.nodeState(node), resolve })
    this.#loop.poke()
    return promise
  }

  async #round(signal: AbortSignal): Promise<void> {
    this.#probers.match()
    try {
      await this.#beat()
      // Until the last write has come back through the watch, the view is older than the store.
      if (!signal.aborted && this.#options.view().revision >= this.#writtenAt) await this.#publish()
    } catch (error) {
      this.#options.log.debug('statuses and verdicts not written', { error })
    }
  }

  async #beat(): Promise<void> {
    const { clock, keys, fence } = this.#options
    if (clock.now() - this.#beatAt < heartbeatMs) return
    const value = JSON.stringify({ fence: String(fence), n: this.#beats + 1, at: clock.date().toISOString() })
    await this.#write([{ type: 'put', key: keys.heartbeat, value }])
    this.#beatAt = clock.now()
    this.#beats++
  }

  async #publish(): Promise<void> {
    const { view, keys, fence, instance, clock } = this.#options
    const { snapshot, documents, suspect, mayName, storedStatuses, entries } = view()
    const observations = this.#probers.observations()
    const held = this.#doubt.holdBack(this.#watched(observations, storedStatuses))
    this.#learning.compare((node) => storedStatuses.get(node)?.stored?.learned)
    const nodes = { nodes: snapshot.nodes, observations, held, storedStatuses, learning: this.#learning }
    const states = planStates({ keys, fence, ...nodes })
    this.#resolveRefreshes(states)
    // The documents of a store that is not trusted are not in force, so they get no verdicts.
    const verdicts =
      suspect === null ? planVerdicts({ keys, fence, documents, ...notesOn(snapshot, keys), entries }) : []
    // Written before the statuses, since those delete the status of a node that has departed.
    const remembered =
      suspect === null
        ? planRemembered({ keys, fence, documents, nodes: snapshot.nodes, entries, now: clock.date() })
        : []
    const missing = planMissing({ keys, entries, now: clock.date() })
    const uid = mayName ? [nameStore(keys.uid)] : []
    const since = this.#since.toISOString()
    const terms = planTerms({ keys, fence, instance: instance.name, since, entries })
    for (const batch of batchesOf([...uid, ...remembered, ...states, ...verdicts, ...terms, ...missing]))
      await this.#write(batch)
  }

  #watched(
    observations: ReadonlyMap<string, Observation | null>,
    storedStatuses: View['storedStatuses'],
  ): Watched[] {
    const unreached = this.#probers.unreached()
    return [...observations].map(([name, seen]) => ({
      name,
      published: storedStatuses.get(name)?.stored?.health ?? null,
      seen: seen?.health ?? null,
      isUnreached: unreached.has(name),
    }))
  }

  /** Called when this process is too slow to probe. It hands leadership over; without another instance it goes on. */
  async #yield(): Promise<void> {
    const { log, handOver, successors } = this.#options
    if (successors().length === 0) return
    log.warn('this instance is too slow to probe nodes: handing leadership over', {
      reason: 'its event loop or CPU is starved',
    })
    await handOver(null)
  }

  /** Resolves the refreshes of nodes without a pending write: the view has their status from the store. */
  #resolveRefreshes(states: readonly Operation[]): void {
    const missing = new Set(states.map(({ key }) => key))
    for (const refresh of this.#refreshes) {
      if (missing.has(refresh.key)) continue
      this.#refreshes.delete(refresh)
      refresh.resolve()
    }
  }

  async #write(operations: readonly Operation[]): Promise<void> {
    this.#writtenAt = (await this.#options.guarded(operations)) ?? this.#writtenAt
  }
}

/** What operators should know about their documents. */
function notesOn(
  snapshot: Snapshot,
  keys: KeyLayout,
): { readonly notes: Notes; readonly areComplete: boolean } {
  const known = [noteOlderCopies(snapshot, keys), noteUnknownClasses(snapshot, keys)]
  const areComplete = isInventoryComplete(snapshot)
  const missing = areComplete ? [noteMissingTargets(snapshot, keys)] : []
  return { notes: mergeNotes(...known, ...missing), areComplete }
}
