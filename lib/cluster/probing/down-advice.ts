import type { Contacts } from '../../fleet/contacts.ts'
import type { NodeStatus } from '../../fleet/node.ts'
import type { Clock } from '../../shared/clock.ts'

interface DownAdviceOptions {
  readonly contacts: Pick<Contacts, 'of' | 'expectNews'>
  readonly clock: Clock
}

/** Decides whether advice that a node is down is used: responses to this instance's own requests outweigh it. */
export class DownAdvice {
  readonly #options: DownAdviceOptions
  /** Nodes advised down: since when by the leader's clock, and when the advice arrived here (monotonic ms). */
  readonly #known = new Map<string, { readonly since: string; readonly learnedAt: number }>()

  constructor(options: DownAdviceOptions) {
    this.#options = options
  }

  /** Whether a node is advised down, so that its responses and failures may change the status in force. */
  isAdvisedDown(name: string): boolean {
    return this.#known.has(name)
  }

  /**
   * A node that is advised down counts as slow once it has answered a request of this instance after the advice came,
   * until a request fails there or the node goes down again.
   */
  weigh(name: string, told: NodeStatus): NodeStatus {
    if (told.health !== 'down') {
      this.#known.delete(name)
      return told
    }
    const { contacts, clock } = this.#options
    const known = this.#known.get(name)
    if (known?.since !== told.since) {
      this.#known.set(name, { since: told.since, learnedAt: clock.now() })
      contacts.expectNews(name)
      return told
    }
    const { answeredAt, failedAt } = contacts.of(name)
    return answeredAt > known.learnedAt && answeredAt > failedAt ? contradicted(told) : told
  }

  forget(name: string): void {
    this.#known.delete(name)
  }
}

/** Contradicted statuses by the advised one, so that the same advice gives the same object. */
const contradictions = new WeakMap<NodeStatus, NodeStatus>()

function contradicted(told: NodeStatus): NodeStatus {
  const known = contradictions.get(told)
  if (known) return known
  const reason = `advised down (${told.reason}), but it answers the requests of this instance`
  const status: NodeStatus = { ...told, health: 'slow', reason }
  contradictions.set(told, status)
  return status
}
