import type { NodeView } from '../../fleet/node.ts'
import type { Reason } from '../../fleet/request-spec.ts'
import type { SchedulerEvent, Timings } from '../events.ts'

/** The right to run one request on a node. Leaving the `using` block gives the slot back, if nothing has before. */
export interface Grant extends Disposable {
  readonly node: NodeView
  readonly reason: Reason
  /** Milliseconds spent waiting for it. */
  readonly queuedMs: number
  /** The first token is here. */
  begun(): void
  /** @param tokens written so far; asked now and then while others wait. */
  watch(tokens: () => number): void
  /** The answer is over. @param timings null where nobody can tell them. @param written tokens. */
  end(timings: Timings | null, written: number): void
  /** The node failed it. */
  failed(): void
  /** The node said that it is full. */
  busy(): void
}

export interface GrantParts extends Pick<Grant, 'node' | 'reason' | 'queuedMs'> {
  /** What the core knows it by. */
  readonly id: string
  readonly model: string
}

/** Invariant: of the ways in which a request ends, the core is told one. */
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

  /** @param whenOver told once, before the core is. */
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

  /** Tells how far it is. */
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
