import type { Ask, Reason } from '../fleet/ask.ts'
import { placeOf } from '../fleet/classes.ts'
import type { LoadSummary } from '../fleet/instance.ts'
import type { NodeView } from '../fleet/node.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import { type Explanation, explain } from './explain.ts'
import type { Gate } from './gate.ts'
import { pick } from './pick.ts'
import { WaitQueue } from './queue.ts'
import { Runners } from './runners.ts'
import { Slots } from './slots.ts'

/** The right to run one request on a node. Leaving the `using` block gives the slot back. */
export interface Grant extends Disposable {
  readonly node: NodeView
  readonly reason: Reason
  /** Milliseconds spent waiting for it. */
  readonly queuedMs: number
}

interface Waiter {
  readonly ask: Ask
  /** When it began to wait this time. */
  readonly since: number
  settle(result: Grant | ProxyError): void
}

interface SchedulerOptions {
  readonly snapshot: CurrentSnapshot
  readonly gate: Gate
  readonly clock: Clock
}

/**
 * One queue, late binding: a request waits here, never on a node, until a slot is free where its model is.
 *
 * A waiter is in the queue or settled: whoever takes it out (pass, time limit, abort) settles it, so it settles once.
 * A model's line is passed when one of its slots comes back, and every line when the snapshot or the gate changes.
 */
export class Scheduler {
  readonly #snapshot: CurrentSnapshot
  readonly #gate: Gate
  readonly #clock: Clock
  readonly #slots = new Slots()
  readonly #runners: Runners
  readonly #queue = new WaitQueue<Waiter>()
  /** Models whose line is to be looked at in this turn of the event loop. */
  readonly #freed = new Set<string>()

  constructor({ snapshot, gate, clock }: SchedulerOptions) {
    this.#snapshot = snapshot
    this.#gate = gate
    this.#clock = clock
    this.#runners = new Runners(clock)
    snapshot.onSwap(() => {
      const isRunning = (node: string, model: string) => this.#slots.ofModel(model).has(node)
      this.#runners.forgetGone(snapshot.get(), isRunning)
      this.refresh()
    })
  }

  /**
   * Waits for a slot on a node that can serve the ask and has not failed it before.
   *
   * @throws ProxyError `all_nodes_down`, `queue_full` or `queue_timeout`; the signal's reason when it aborts.
   */
  async acquire(ask: Ask, signal: AbortSignal): Promise<Grant> {
    signal.throwIfAborted()
    // Nobody overtakes: after a pass no waiter can use a slot that is still free, so a newcomer may.
    if (this.#freed.has(ask.model)) this.#pass(ask.model)
    const since = this.#clock.now()
    const choice = this.#pick(ask)
    if ('node' in choice) return this.#grant(ask, choice, since)
    if (choice.none === 'down') throw new ProxyError('all_nodes_down', { model: ask.model })
    const { max_length: limit } = this.#snapshot.get().config.queue
    if (this.#queue.length >= limit) throw new ProxyError('queue_full', { queued: this.#queue.length })
    return this.#wait(ask, since, signal)
  }

  /** Looks at every line again: something outside (snapshot, gate) changed. */
  refresh(): void {
    for (const model of this.#queue.models()) this.#planPass(model)
  }

  /** Requests of this instance running on a node. */
  running(node: string): number {
    return this.#slots.running(node)
  }

  summary(): LoadSummary {
    return { running: this.#slots.byNode(), queued: this.#queue.length }
  }

  /** Requests waiting, by class; classes nobody waits in are absent. */
  queuedByClass(): ReadonlyMap<string, number> {
    return this.#queue.byClass()
  }

  /** Whether a node that has not failed the ask could serve it, now or after waiting: see `pick`. Nothing is taken. */
  couldServe(ask: Ask): boolean {
    const choice = this.#pick(ask)
    return 'node' in choice || choice.none === 'full'
  }

  /** What `acquire` would decide now, and why. */
  explain(ask: Ask): Explanation {
    return explain(ask, this.#world())
  }

  #pick(ask: Ask) {
    return pick(ask, this.#world())
  }

  #world() {
    return {
      snapshot: this.#snapshot.get(),
      slots: this.#slots,
      gate: this.#gate,
      runners: this.#runners,
    }
  }

  #wait(ask: Ask, since: number, signal: AbortSignal): Promise<Grant> {
    const { promise, resolve, reject } = Promise.withResolvers<Grant>()
    const { classes, queue } = this.#snapshot.get().config
    const maxWaitMs = classes[placeOf(ask.class, classes)]?.max_wait ?? queue.max_wait
    const waiter: Waiter = {
      ask,
      since,
      settle: (result) => {
        cancelTimer()
        signal.removeEventListener('abort', onAbort)
        if (result instanceof Error) reject(result)
        else resolve(result)
      },
    }
    const onAbort = () => {
      cancelTimer()
      if (this.#queue.remove(waiter)) reject(signal.reason)
    }
    const cancelTimer = this.#clock.after(maxWaitMs, () => {
      const late = new ProxyError('queue_timeout', { model: ask.model, seconds: maxWaitMs / 1000 })
      if (this.#queue.remove(waiter)) waiter.settle(late)
    })
    signal.addEventListener('abort', onAbort, { once: true })
    this.#queue.add(waiter)
    return promise
  }

  /** Coalesced: however much happens in a turn of the event loop, each line is looked at once. */
  #planPass(model: string): void {
    if (this.#freed.size === 0) queueMicrotask(() => this.#passAll())
    this.#freed.add(model)
  }

  #passAll(): void {
    for (const model of this.#freed) this.#pass(model)
  }

  /** Gives every free slot for a model to the first in its line that can use it. */
  #pass(model: string): void {
    this.#freed.delete(model)
    const full = new Set<string>()
    const { classes } = this.#snapshot.get().config
    for (const waiter of this.#queue.line(model, classes, this.#clock.now())) {
      // When an ask without conditions finds every node full, so does every other of its variant.
      if (full.has(waiter.ask.variant) && isUnconditional(waiter.ask)) continue
      const choice = this.#pick(waiter.ask)
      if ('none' in choice && choice.none === 'full') {
        if (isUnconditional(waiter.ask)) full.add(waiter.ask.variant)
        continue
      }
      this.#queue.remove(waiter)
      waiter.settle(
        'node' in choice
          ? this.#grant(waiter.ask, choice, waiter.since)
          : new ProxyError('all_nodes_down', { model }),
      )
    }
  }

  #grant(ask: Ask, { node, reason }: { node: NodeView; reason: Reason }, since: number): Grant {
    const giveBack = this.#slots.take(node.name, ask.model, ask.variant)
    this.#runners.sent(node.name, ask, reason === 'cold-load')
    this.#gate.passage(node.name, ask.model).claim()
    return {
      node,
      reason,
      queuedMs: this.#clock.now() - since,
      [Symbol.dispose]: () => {
        giveBack()
        this.#runners.used(node.name, ask.model)
        this.#planPass(ask.model)
      },
    }
  }
}

function isUnconditional({ tried, nodes }: Ask): boolean {
  return tried.size === 0 && Object.keys(nodes).length === 0
}
