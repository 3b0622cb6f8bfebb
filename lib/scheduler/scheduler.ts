import type { Ask } from '../fleet/ask.ts'
import { placeOf } from '../fleet/classes.ts'
import type { Elsewhere, LoadSummary } from '../fleet/instance.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Dice } from '../shared/loop.ts'
import type { Metrics } from '../shared/metrics.ts'
import { Roster } from '../shared/roster.ts'
import type { QueuedWork } from './core.ts'
import { CoreLoop } from './core-loop.ts'
import type { LoggedDecision } from './decision-log.ts'
import type { Departure, Effect } from './events.ts'
import { type Explanation, explain } from './explain.ts'
import type { Gate } from './gate.ts'
import { type Grant, RunningRequest } from './grant.ts'
import type { LearnedState } from './learning.ts'
import { LoadError, type Loader } from './loader.ts'
import { refusalOf } from './refusal.ts'
import { workOf } from './work.ts'

interface Waiter {
  readonly ask: Ask
  /** When it began to wait this time, in monotonic milliseconds. */
  readonly since: number
  grant(grant: Grant): void
  refuse(reason: unknown): void
}

interface SchedulerOptions {
  readonly snapshot: CurrentSnapshot
  readonly gate: Gate
  readonly loader: Loader
  readonly clock: Clock
  readonly dice: Dice
  readonly metrics: Pick<Metrics, 'predictionError'>
  /** What other instances do with the nodes, as far as is known. */
  readonly usedElsewhere: () => Elsewhere
  /** Whether this instance leads. */
  readonly leads: () => boolean
}

/** Whoever waits for a load is not told that no slot became free, and is looked at again after so many milliseconds. */
const loadCheckMs = 1000

/**
 * The shell around the core: callers ask it for slots, it tells the core, and does what the core says.
 *
 * Invariant: a waiter is in the map or settled, and the core knows of exactly those in the map and of what runs.
 */
export class Scheduler {
  readonly #snapshot: CurrentSnapshot
  readonly #gate: Gate
  readonly #loader: Loader
  readonly #clock: Clock
  readonly #loop: CoreLoop
  /** By the id that the core knows them by. */
  readonly #waiters = new Roster<string, Waiter>()
  readonly #running = new Roster<string, RunningRequest>()
  /** Of the last load of a model on a node, if it failed: what its loader threw. */
  readonly #failedLoads = new Map<string, unknown>()
  /** Requests running, by node, without the idle ones. */
  readonly #byNode = new Map<string, number>()
  /** Nodes that have been asked for a load. */
  readonly #loading = new Set<string>()

  constructor(options: SchedulerOptions) {
    const { snapshot, gate, loader, clock } = options
    this.#snapshot = snapshot
    this.#gate = gate
    this.#loader = loader
    this.#clock = clock
    this.#loop = new CoreLoop({
      ...options,
      execute: (effect) => this.#execute(effect),
      ticking: () => {
        for (const running of this.#running.values()) running.report()
      },
    })
    snapshot.onSwap(() => this.refresh())
  }

  /**
   * Waits for a slot on a node that can serve the ask and has not failed it before.
   *
   * @throws ProxyError `all_nodes_down`, `queue_full`, `tenant_queue_full`, `no_capacity` or `queue_timeout`; what the
   *   loader threw when the load it waited for failed, or failed just now and nobody else could serve it; the signal's
   *   reason when it aborts.
   */
  acquire(ask: Ask, signal: AbortSignal): Promise<Grant> {
    if (signal.aborted) return Promise.reject(signal.reason)
    this.#loop.look()
    const { promise, resolve, reject } = Promise.withResolvers<Grant>()
    const id = this.#freeId(ask.id)
    const leave = () => this.#remove(id, 'left', signal.reason)
    let cancelLimit = () => {}
    const settled = () => {
      cancelLimit()
      signal.removeEventListener('abort', leave)
    }
    this.#waiters.set(id, {
      ask,
      since: this.#clock.now(),
      grant: (grant) => {
        settled()
        resolve(grant)
      },
      refuse: (reason) => {
        settled()
        reject(reason)
      },
    })
    signal.addEventListener('abort', leave, { once: true })
    const limitMs = this.#maxWaitMs(ask)
    const loadedBy = this.#clock.now() + limitMs + this.#snapshot.get().config.timeouts.first_token
    const expire = () => {
      const isLoading = this.#loop.core.plan(id)?.waitsFor === 'load' && this.#clock.now() < loadedBy
      if (isLoading) cancelLimit = this.#clock.after(loadCheckMs, expire)
      else this.#expire(id, ask.model, limitMs)
    }
    cancelLimit = this.#clock.after(limitMs, expire)
    this.#loop.tell({ type: 'arrived', work: workOf(ask, id) })
    return promise
  }

  /** Takes a request out of the queue: its caller is told that an operator did. Whether it was there. */
  cancel(id: string): boolean {
    return this.#remove(id, 'cancelled', new ProxyError('cancelled'))
  }

  /** Something outside (snapshot, gate) changed. */
  refresh(): void {
    this.#loop.refresh()
  }

  /** Requests of this instance running on a node. */
  running(node: string): number {
    return this.#byNode.get(node) ?? 0
  }

  summary(): LoadSummary {
    return {
      running: Object.fromEntries(this.#byNode),
      ...(this.#loading.size > 0 && { loading: [...this.#loading] }),
      queued: this.#waiters.size,
    }
  }

  /** Requests waiting and milliseconds that the first of them has waited, by class; classes nobody waits in are absent. */
  queuedByClass(): ReadonlyMap<string, { readonly count: number; readonly oldestMs: number }> {
    const now = this.#clock.now()
    const classes = new Map<string, { count: number; oldestMs: number }>()
    for (const { ask, since } of this.#waiters.values()) {
      const { count, oldestMs } = classes.get(ask.class) ?? { count: 0, oldestMs: 0 }
      classes.set(ask.class, { count: count + 1, oldestMs: Math.max(oldestMs, now - since) })
    }
    return classes
  }

  /** All that waits, in the order in which it will be served if nothing else happens. Times are monotonic seconds. */
  queued(): readonly QueuedWork[] {
    return this.#loop.core.queued()
  }

  /** The last decisions, the newest first. Times are monotonic seconds. */
  decisions(): readonly LoggedDecision[] {
    return this.#loop.core.decisions()
  }

  learned(): LearnedState {
    return this.#loop.core.learned()
  }

  /** Begins where another instance, or this one before its restart, left off. */
  restore(state: LearnedState): void {
    this.#loop.core.restore(state)
  }

  /** Whether a node that has not failed the ask could serve it, now or after waiting. Nothing is taken. */
  couldServe(ask: Ask): boolean {
    this.#loop.look()
    return this.#loop.core.couldServe(workOf(ask, ''), this.#loop.now)
  }

  /** Seconds until the ask's model is loaded again, where that failed just now and is all that would help; else null. */
  loadRetryS(ask: Ask): number | null {
    return this.#loop.core.loadRetryS(workOf({ ...ask, tried: new Set() }, ''), this.#loop.now)
  }

  /** What would be decided on the ask now, and why, waiting or not. Nothing is taken. */
  explain(ask: Ask): Explanation {
    this.#loop.look()
    const running = new Map<string, number>()
    for (const { node, model } of this.#running.values()) if (model === ask.model) add(running, node.name, 1)
    return explain(workOf(ask, this.#waiters.has(ask.id) ? ask.id : ''), {
      snapshot: this.#snapshot.get(),
      gate: this.#gate,
      core: this.#loop.core,
      running,
      now: this.#loop.now,
    })
  }

  /** An id of its own, also for who asks twice under one. */
  #freeId(wanted: string): string {
    let id = wanted
    for (let nth = 2; this.#waiters.has(id) || this.#running.has(id); nth++) id = `${wanted}-${nth}`
    return id
  }

  #maxWaitMs({ class: name }: Ask): number {
    const { classes, queue } = this.#snapshot.get().config
    return classes[placeOf(name, classes)]?.max_wait ?? queue.max_wait
  }

  /** Whether it was still waiting. @param reason that its caller is told. */
  #remove(id: string, why: Departure, reason: unknown): boolean {
    const waiter = this.#waiters.get(id)
    if (!waiter) return false
    this.#waiters.delete(id)
    waiter.refuse(reason)
    this.#loop.tell({ type: 'left', id, why })
    return true
  }

  #expire(id: string, model: string, limitMs: number): void {
    const retryAfter = this.#loop.core.retryAfterS(id, this.#loop.now)
    const error = new ProxyError('queue_timeout', { model, seconds: limitMs / 1000, retryAfter })
    this.#remove(id, 'waited-too-long', error)
  }

  #execute(effect: Effect): void {
    switch (effect.type) {
      case 'start':
        this.#start(effect)
        break
      case 'refuse':
        this.#refuse(effect)
        break
      case 'swap':
        void this.#swap(effect)
        break
    }
  }

  #start({ id, node: name, decision }: Extract<Effect, { type: 'start' }>): void {
    const waiter = this.#waiters.get(id)
    const node = this.#snapshot.get().nodes.get(name)
    if (!waiter || !node) return // cannot be: the core was told of both in this very turn
    this.#waiters.delete(id)
    const queuedMs = this.#clock.now() - waiter.since
    const running = new RunningRequest({
      id,
      node,
      model: waiter.ask.model,
      queuedMs,
      decision,
      tell: (event) => this.#loop.tell(event),
      over: () => {
        this.#running.delete(id)
        add(this.#byNode, name, -1)
      },
    })
    this.#running.set(id, running)
    add(this.#byNode, name, 1)
    this.#gate.passage(name, waiter.ask.model).claim()
    waiter.grant(running)
  }

  #refuse(refusal: Extract<Effect, { type: 'refuse' }>): void {
    const waiter = this.#waiters.get(refusal.id)
    if (!waiter) return
    this.#waiters.delete(refusal.id)
    const { ask } = waiter
    const failedLoad = this.#failedLoads.get(`${refusal.node} ${ask.model}`)
    if (refusal.reason === 'load-failed' && failedLoad) waiter.refuse(failedLoad)
    else waiter.refuse(refusalOf(refusal, { ...ask, queued: this.#waiters.size }))
  }

  /** Has a model loaded. Whoever waits for it is told when that fails, and may try elsewhere. */
  async #swap({ node: name, victims, model, variant }: Extract<Effect, { type: 'swap' }>): Promise<void> {
    const node = this.#snapshot.get().nodes.get(name)
    if (!node) return // as in #start
    this.#gate.passage(name, model).claim()
    this.#loading.add(name)
    const first = this.#waitingFor(model, variant)[0]?.[1]
    const api = first?.ask.api ?? 'ollama_generate'
    try {
      const swapped = await this.#loader.swap({ node, victims, model, variant, api })
      const ok = 'loadS' in swapped
      if (ok) this.#failedLoads.delete(`${name} ${model}`)
      this.#loop.tell({ type: 'swapped', node: name, model, ok, loadS: 0, ...swapped })
    } catch (error) {
      this.#failedLoads.set(`${name} ${model}`, error)
      for (const [id] of this.#waitingFor(model, variant))
        if (this.#loop.core.plan(id)?.node === name) this.#remove(id, 'load-failed', error)
      const isBusy = error instanceof LoadError && error.isBusy
      this.#loop.tell({ type: 'swapped', node: name, model, ok: false, isBusy, loadS: 0 })
    } finally {
      this.#loading.delete(name)
    }
  }

  #waitingFor(model: string, variant: string): [id: string, waiter: Waiter][] {
    return [...this.#waiters].filter(([, { ask }]) => ask.model === model && ask.variant === variant)
  }
}

function add(counts: Map<string, number>, key: string, change: number): void {
  const count = (counts.get(key) ?? 0) + change
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
}
