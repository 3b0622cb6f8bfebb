import type { InFlightRequest, Runner } from '../fleet/runner.ts'

/** Slots are not kept for less than this. */
const leastS = 0.05

interface Abandoned {
  readonly inFlight: InFlightRequest
  readonly leftAt: number
  readonly until: number
}

/**
 * Requests whose callers disconnected while the prompt was read. llama-server notices that only between two batches, and a
 * batch takes many seconds on a slow node. Until then the slot is not free: the next request would wait for it on the node.
 */
export class AbandonedPrompts {
  #prompts: Abandoned[] = []
  #left = 0

  /** When the next slot is expected to be free, in monotonic seconds; Infinity: no slot is kept. */
  get endsAt(): number {
    let first = Number.POSITIVE_INFINITY
    for (const { until } of this.#prompts) first = Math.min(first, until)
    return first
  }

  /** Keeps the slot of an abandoned request while its node is still busy with it. */
  keep(inFlight: InFlightRequest, seconds: number, now: number): void {
    if (!(seconds > leastS)) return
    // The caller may send a new request under the same id.
    const request = { ...inFlight.request, id: `${inFlight.request.id} left ${this.#left++}` }
    const kept = { ...inFlight, request, startedAt: now, prefillS: seconds, rest: 0 }
    this.#prompts.push({ inFlight: kept, leftAt: now, until: now + seconds })
    inFlight.runner.node.began(kept)
  }

  /** Frees slots after their time, and slots of models that are no longer in memory. */
  settle(now: number): void {
    if (this.#prompts.length > 0)
      this.#release(({ until, inFlight }) => until <= now || inFlight.runner.residence === null, now)
  }

  /** Another request of the runner got tokens after `since`: batches that were under way then have ended. */
  answered(runner: Runner, since: number, now: number): void {
    if (this.#prompts.length > 0)
      this.#release(({ inFlight, leftAt }) => inFlight.runner === runner && leftAt < since, now)
  }

  #release(isOver: (prompt: Abandoned) => boolean, now: number): void {
    const kept: Abandoned[] = []
    for (const prompt of this.#prompts)
      if (isOver(prompt)) prompt.inFlight.runner.node.ended(prompt.inFlight, now)
      else kept.push(prompt)
    this.#prompts = kept
  }
}
