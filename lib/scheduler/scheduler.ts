import type { Ask, Reason } from '../fleet/ask.ts'
import type { LoadSummary } from '../fleet/instance.ts'
import type { NodeView } from '../fleet/node.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Gate } from './gate.ts'
import { pick } from './pick.ts'
import { WaitQueue } from './queue.ts'
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
  readonly arrivedAt: number
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
 * Passes run when a slot comes back, when the snapshot changes and when a breaker does.
 */
export class Scheduler {
  readonly #snapshot: CurrentSnapshot
  readonly #gate: Gate
  readonly #clock: Clock
  readonly #slots = new Slots()
  readonly #queue = new WaitQueue<Waiter>()
  #passPlanned = false

  constructor({ snapshot, gate, clock }: SchedulerOptions) {
    this.#snapshot = snapshot
    this.#gate = gate
    this.#clock = clock
    snapshot.onSwap(() => this.refresh())
  }

  /**
   * Waits for a slot on a node that can serve the ask and has not failed it before.
   *
   * @throws ProxyError `all_nodes_down`, `queue_full` or `queue_timeout`; the signal's reason when it aborts.
   */
  async acquire(ask: Ask, signal: AbortSignal): Promise<Grant> {
    signal.throwIfAborted()
    // Nobody overtakes: after a pass no waiter can use a slot that is still free, so a newcomer may.
    if (this.#passPlanned) this.#pass()
    const since = this.#clock.now()
    const choice = this.#pick(ask)
    if ('node' in choice) return this.#grant(ask, choice, since)
    if (choice.none === 'down') throw new ProxyError('all_nodes_down', { model: ask.model })
    const { max_length: limit } = this.#snapshot.get().config.queue
    if (this.#queue.length >= limit) throw new ProxyError('queue_full', { queued: this.#queue.length })
    return this.#wait({ ask, arrivedAt: ask.arrivedAt, since }, signal)
  }

  /** Looks at the queue again: something outside (snapshot, breaker) changed. Coalesced per turn of the event loop. */
  refresh(): void {
    if (this.#passPlanned || this.#queue.length === 0) return
    this.#passPlanned = true
    queueMicrotask(() => {
      if (this.#passPlanned) this.#pass()
    })
  }

  /** Requests of this instance running on a node. */
  running(node: string): number {
    return this.#slots.running(node)
  }

  summary(): LoadSummary {
    return { running: this.#slots.byNode(), queued: this.#queue.length }
  }

  #pick(ask: Ask) {
    return pick(ask, { snapshot: this.#snapshot.get(), slots: this.#slots, gate: this.#gate })
  }

  #wait(entry: Omit<Waiter, 'settle'>, signal: AbortSignal): Promise<Grant> {
    const { promise, resolve, reject } = Promise.withResolvers<Grant>()
    const { max_wait: maxWaitMs } = this.#snapshot.get().config.queue
    const waiter: Waiter = {
      ...entry,
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
      const late = new ProxyError('queue_timeout', { model: entry.ask.model, seconds: maxWaitMs / 1000 })
      if (this.#queue.remove(waiter)) waiter.settle(late)
    })
    signal.addEventListener('abort', onAbort, { once: true })
    this.#queue.add(waiter)
    return promise
  }

  /** Gives every free slot to the first in the queue that can use it. */
  #pass(): void {
    this.#passPlanned = false
    const full = new Set<string>()
    for (const waiter of this.#queue.inOrder()) {
      // Asks alike find the same nodes full: judged once per pass, whatever the length of the queue.
      const likeness =
        waiter.ask.tried.size === 0 ? `${waiter.ask.model} ${JSON.stringify(waiter.ask.nodes)}` : null
      if (likeness && full.has(likeness)) continue
      const choice = this.#pick(waiter.ask)
      if ('none' in choice && choice.none === 'full') {
        if (likeness) full.add(likeness)
        continue
      }
      this.#queue.remove(waiter)
      waiter.settle(
        'node' in choice
          ? this.#grant(waiter.ask, choice, waiter.since)
          : new ProxyError('all_nodes_down', { model: waiter.ask.model }),
      )
    }
  }

  #grant(ask: Ask, { node, reason }: { node: NodeView; reason: Reason }, since: number): Grant {
    const giveBack = this.#slots.take(node.name, ask.model)
    return {
      node,
      reason,
      queuedMs: this.#clock.now() - since,
      [Symbol.dispose]: () => {
        giveBack()
        this.refresh()
      },
    }
  }
}
