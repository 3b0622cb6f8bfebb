import type { NodeView } from '../../fleet/node.ts'
import type { Reason } from '../../fleet/request-spec.ts'
import type { SchedulerEvent, Timings } from '../events.ts'

/** The right to run one request on a node. Leaving the `using` block gives the slot back, unless it was given back before. */
export interface Grant extends Disposable {
  readonly node: NodeView
  readonly reason: Reason
  /** Milliseconds spent in the queue. */
  readonly queuedMs: number
  /** The first token arrived. */
  begun(): void
  /** @param tokens returns the tokens written so far; called at intervals while other requests wait. */
  watch(tokens: () => number): void
  /** The answer is complete. @param timings null: unknown. @param written output tokens. */
  end(timings: Timings | null, written: number): void
  /** The node failed the request. */
  failed(): void
  /** The node answered that it is full. */
  busy(): void
}

export interface GrantParts extends Pick<Grant, 'node' | 'reason' | 'queuedMs'> {
  /** The id of the request in the core. */
  readonly id: string
  readonly model: string
}

/** Invariant: the core gets exactly one end event per request. */
export class RunningRequest implements Grant {
  readonly node: NodeView
  readonly reason: Reason
  readonly queuedMs: number
  readonly id: string
  readonly model: string
  readonly #tell: (event: SchedulerEvent) => void
  readonly #whenOver: (running: RunningRequest) => void
  #tokens: (() => number) | null = null
  #isOver = false

  /** @param whenOver called once, before the core gets the event. */
  constructor(
    { id, node, model, reason, queuedMs }: GrantParts,
    tell: (event: SchedulerEvent) => void,
    whenOver: (running: RunningRequest) => void,
  ) {
    this.id = id
    this.node = node
    this.reason = reason
    this.queuedMs = queuedMs
    this.model = model
    this.#tell = tell
    this.#whenOver = whenOver
  }

  begun(): void {
    if (!this.#isOver) this.#tell({ type: 'first-token', id: this.id })
  }

  watch(tokens: () => number): void {
    this.#tokens = tokens
  }

  /** Reports the tokens written so far. */
  report(): void {
    const tokens = this.#tokens?.() ?? 0
    if (tokens > 0) this.#tell({ type: 'tokens', id: this.id, tokens })
  }

  end(timings: Timings | null, written: number): void {
    this.#over({ type: 'ended', id: this.id, timings, written })
  }

  failed(): void {
    this.#over({ type: 'ended', id: this.id, timings: null })
  }

  busy(): void {
    this.#over({ type: 'busy', id: this.id })
  }

  [Symbol.dispose](): void {
    this.#over({ type: 'left', id: this.id })
  }

  #over(event: SchedulerEvent): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#whenOver(this)
    this.#tell(event)
  }
}
