/**
 * Milliseconds after which a call counts as unanswered. When the raft leader freezes, a client may ask all three members
 * in vain: three deadlines and the callers' pauses have to fit into the three seconds within which control goes on.
 */
const promptMs = 750
/** An answer later than this share of the prompt deadline says that etcd, or the way to it, is slow. */
const slowShare = 0.5
/** The longest that a call waits for its connection as well, in milliseconds, unless its deadline is longer anyway. */
const connectMs = 3000
/** By how much a deadline grows with each round in which every endpoint was asked in vain. */
const growth = 2
/** The longest deadline as a share of a lease's TTL: a leader trusts a renewal for 0.7 TTL, enough for two calls. */
const ttlShare = 0.3
/** TTL of leases, in milliseconds, as long as none was granted. */
const usualTtlMs = 10_000
/** Milliseconds for which a longer deadline stays after a slow answer, or after an unanswered call. */
const slowMemoryMs = 60_000
const vainMemoryMs = 5000

interface Round {
  readonly calls: number
  /** Whether a call waited for its deadline: a refused connection needs no patience. */
  readonly waited: boolean
}

const fresh: Round = { calls: 0, waited: false }

/**
 * How long to wait for an answer of etcd. A short deadline finds a healthy member when another one hangs. When no endpoint
 * answers, etcd itself may be slow (its disk, or the network), and deadlines grow, as far as the TTL of leases leaves room,
 * until answers are prompt again.
 */
export class CallDeadlines {
  readonly #endpoints: number
  readonly #now: () => number
  #deadlineMs = promptMs
  #longestMs = usualTtlMs * ttlShare
  #until = Number.NEGATIVE_INFINITY
  #round = fresh

  /** @param now monotonic milliseconds */
  constructor(endpoints: number, now: () => number) {
    this.#endpoints = endpoints
    this.#now = now
  }

  /** Whether deadlines are longer than while etcd is prompt. */
  get isPatient(): boolean {
    return this.#now() < this.#until && this.#deadlineMs > promptMs
  }

  /**
   * The deadline of a call that begins now. While deadlines are long, a call that first has to connect gets more time, for up
   * to three more round trips; not much more, since the peer may accept connections and never finish the handshake.
   */
  deadlineMs(isConnected: boolean): number {
    if (!this.isPatient) return promptMs
    return isConnected
      ? this.#deadlineMs
      : Math.max(this.#deadlineMs, Math.min(2 * this.#deadlineMs, connectMs))
  }

  /** A lease was granted: calls under it have to fit into its TTL. */
  granted(ttlMs: number): void {
    this.#longestMs = ttlMs * ttlShare
    this.#deadlineMs = Math.min(this.#deadlineMs, this.#longestMs)
  }

  answered(tookMs: number): void {
    this.#round = fresh
    if (tookMs > promptMs * slowShare) this.#remember(this.deadlineMs(true), slowMemoryMs)
  }

  unanswered(tookMs: number): void {
    const deadlineMs = this.deadlineMs(true)
    const waited = this.#round.waited || tookMs >= deadlineMs * 0.9
    this.#round = { calls: this.#round.calls + 1, waited }
    if (this.#round.calls < this.#endpoints) return
    this.#round = fresh
    if (waited) this.#remember(Math.min(deadlineMs * growth, this.#longestMs), vainMemoryMs)
  }

  /** Keeps the deadline longer than a round lasts: each call of the round may take the whole deadline. */
  #remember(deadlineMs: number, forMs: number): void {
    this.#deadlineMs = deadlineMs
    this.#until = Math.max(this.#until, this.#now() + forMs + 2 * deadlineMs * this.#endpoints)
  }
}
