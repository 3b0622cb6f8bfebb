import type { Snapshot } from '../fleet/snapshot.ts'
import type { LearnedState } from '../scheduler/learning.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import { type Dice, Loop } from '../shared/loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Keys } from '../store/keys.ts'
import type { Entry, Operation } from '../store/store.ts'
import { batchesOf, planStates } from './advice.ts'
import type { Answers } from './inquiry.ts'
import { JobRunner } from './job-runner.ts'
import { LatenessLimit } from './lateness-limit.ts'
import { Lessons } from './lessons.ts'
import { isInventoryComplete, noteMissingTargets } from './missing-targets.ts'
import type { Objects } from './objects.ts'
import { noteOlderCopies } from './older-copies.ts'
import type { Evidence } from './prober.ts'
import { Probers } from './probers.ts'
import { planRemembered } from './remembered.ts'
import { SelfDoubt, type Watched } from './self-doubt.ts'
import type { Observation, Sighting } from './statuses.ts'
import { planTerms } from './terms.ts'
import { nameStore } from './trust.ts'
import { noteUnknownClasses } from './unknown-classes.ts'
import { mergeNotes, type Notes, planVerdicts } from './verdicts.ts'

/** The world as this instance knows it. */
interface View {
  readonly snapshot: Snapshot
  readonly objects: Objects
  /** Why the store is not believed; null when it is. */
  readonly suspect: string | null
  /** Whether the store may get a uid now. */
  readonly mayName: boolean
  readonly sightings: ReadonlyMap<string, Sighting>
  /** Everything in the store, as of `revision`. */
  readonly entries: ReadonlyMap<string, Entry>
  readonly revision: bigint
}

interface ControllerOptions {
  /** The term it works for, and who leads in it. */
  readonly fence: bigint
  readonly instance: { readonly name: string }
  /** Writes as the leader; returns the revision, or null when this is no longer the leader. */
  readonly guarded: (operations: readonly Operation[]) => Promise<bigint | null>
  readonly view: () => View
  readonly evidence: Evidence
  /** Asks the other instances which nodes they reach. */
  readonly ask: (nodes: readonly string[]) => Promise<Answers>
  /** Instances that could lead instead. */
  readonly successors: () => readonly string[]
  /** Gives leadership to another instance; null: to any. */
  readonly handOver: (successor: string | null) => Promise<void>
  /** What this instance's scheduler learned. */
  readonly learned: () => LearnedState
  readonly keys: Keys
  readonly clock: Clock
  readonly dice: Dice
  readonly log: Log
  readonly metrics: Metrics
}

const periodMs = 1000
const heartbeatMs = 5000

/**
 * The leader's work for one term: look at the world, decide what the store should say of it, write the difference.
 * Nothing it knows is lost with it: the next leader goes on from the store.
 */
export class Controller {
  readonly #options: ControllerOptions
  readonly #probers: Probers
  readonly #doubt: SelfDoubt
  readonly #lateness: LatenessLimit
  readonly #jobs: JobRunner
  readonly #lessons: Lessons
  readonly #loop: Loop
  readonly #since: Date
  /** Who waits for the store to say what was seen of a node. */
  readonly #looks = new Set<{ readonly key: string; readonly resolve: () => void }>()
  #writtenAt = 0n
  #beats = 0
  #beatAt = Number.NEGATIVE_INFINITY

  constructor(options: ControllerOptions) {
    const { view, clock, dice, metrics, evidence } = options
    this.#options = options
    this.#since = clock.date()
    this.#loop = new Loop({ clock, dice, periodMs: () => periodMs, round: (signal) => this.#round(signal) })
    this.#probers = new Probers({
      snapshot: () => view().snapshot,
      clock,
      dice,
      metrics,
      evidence,
      late: () => this.#lateness.note(),
      changed: () => this.#loop.poke(),
    })
    this.#doubt = new SelfDoubt({ ...options, changed: () => this.#loop.poke() })
    this.#lateness = new LatenessLimit({ ...options, exceeded: () => void this.#giveUp() })
    this.#lessons = new Lessons(options)
    this.#jobs = new JobRunner({ ...options, look: (node) => this.#look(node) })
  }

  start(): void {
    this.#loop.start()
    this.#jobs.start()
  }

  /** Takes effect before it returns: no request goes out after it, and no write begins. */
  stop(): void {
    this.#jobs.stop()
    void this.#loop.stop()
    this.#probers.stop()
  }

  /** See `Prober.doubt`. */
  doubt(node: string): void {
    this.#probers.doubt(node)
  }

  /** Something changed: look now. */
  poke(): void {
    this.#loop.poke()
  }

  /** A job changed: look at them now. */
  pokeJobs(): void {
    this.#jobs.poke()
  }

  /** Resolves when the store says what the node has now, or what was known before if that cannot be found out. */
  async #look(node: string): Promise<void> {
    await this.#probers.look(node)
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#looks.add({ key: this.#options.keys.nodeState(node), resolve })
    this.#loop.poke()
    return promise
  }

  async #round(signal: AbortSignal): Promise<void> {
    this.#probers.match()
    try {
      await this.#beat()
      // Until our last write has come back to us, what we know is older than what we did.
      if (!signal.aborted && this.#options.view().revision >= this.#writtenAt) await this.#advise()
    } catch (error) {
      this.#options.log.debug('the advice could not be written', { error })
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

  async #advise(): Promise<void> {
    const { view, keys, fence, instance, clock } = this.#options
    const { snapshot, objects, suspect, mayName, sightings, entries } = view()
    const observations = this.#probers.observations()
    const held = this.#doubt.hold(this.#watched(observations, sightings))
    this.#lessons.look((node) => sightings.get(node)?.stored?.learned)
    const nodes = { nodes: snapshot.nodes, observations, held, sightings, lessons: this.#lessons }
    const states = planStates({ keys, fence, ...nodes })
    this.#resolveLooks(states)
    // On a store that is not believed there is nothing to say about documents of another one.
    const verdicts =
      suspect === null ? planVerdicts({ keys, fence, objects, ...notesOn(snapshot, keys), entries }) : []
    // Before the statuses: that of a node that has departed is removed with them.
    const remembered =
      suspect === null
        ? planRemembered({ keys, fence, objects, nodes: snapshot.nodes, entries, now: clock.date() })
        : []
    const uid = mayName ? [nameStore(keys.uid)] : []
    const since = this.#since.toISOString()
    const terms = planTerms({ keys, fence, instance: instance.name, since, entries })
    for (const batch of batchesOf([...uid, ...remembered, ...states, ...verdicts, ...terms]))
      await this.#write(batch)
  }

  #watched(observations: ReadonlyMap<string, Observation | null>, sightings: View['sightings']): Watched[] {
    const unreached = this.#probers.unreached()
    return [...observations].map(([name, seen]) => ({
      name,
      published: sightings.get(name)?.stored?.health ?? null,
      seen: seen?.health ?? null,
      isUnreached: unreached.has(name),
    }))
  }

  /** This process is too slow to judge others. Without another instance it goes on as well as it can. */
  async #giveUp(): Promise<void> {
    const { log, handOver, successors } = this.#options
    if (successors().length === 0) return
    log.warn('this instance is late itself: handing leadership over', {
      reason: 'CPU or event loop is starved',
    })
    await handOver(null)
  }

  /** What is not to be written stands in the store, and in the copy of it that the view is of. */
  #resolveLooks(states: readonly Operation[]): void {
    const missing = new Set(states.map(({ key }) => key))
    for (const look of this.#looks) {
      if (missing.has(look.key)) continue
      this.#looks.delete(look)
      look.resolve()
    }
  }

  async #write(operations: readonly Operation[]): Promise<void> {
    this.#writtenAt = (await this.#options.guarded(operations)) ?? this.#writtenAt
  }
}

/** What operators should know of their documents. */
function notesOn(snapshot: Snapshot, keys: Keys): { readonly notes: Notes; readonly areComplete: boolean } {
  const known = [noteOlderCopies(snapshot, keys), noteUnknownClasses(snapshot, keys)]
  const areComplete = isInventoryComplete(snapshot)
  const missing = areComplete ? [noteMissingTargets(snapshot, keys)] : []
  return { notes: mergeNotes(...known, ...missing), areComplete }
}
