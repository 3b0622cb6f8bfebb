import { performance } from 'node:perf_hooks'

/**
 * Time as a dependency: everything that waits or measures takes a Clock, so tests turn hours into milliseconds.
 * `now` is monotonic and is the only clock decisions may use; dates are for logs and stored records.
 */
export interface Clock {
  /** Monotonic milliseconds since an arbitrary origin. */
  now(): number
  /** Wall-clock time, for logs and records only: it may jump. */
  date(): Date
  /** Runs `task` once, `ms` milliseconds from now or later, never sooner. Returns the cancel function, safe to call at any time. */
  after(ms: number, task: () => void): () => void
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** The clock of the machine. Its timers never keep the process alive on their own. */
export class RealClock implements Clock {
  readonly #scale: number

  /** @param scale real milliseconds per clock millisecond: 0.01 runs a hundred times faster. */
  constructor(scale = 1) {
    this.#scale = scale
  }

  now(): number {
    return performance.now() / this.#scale
  }

  date(): Date {
    return new Date()
  }

  after(ms: number, task: () => void): () => void {
    const dueAt = performance.now() + ms * this.#scale
    const wait = () => setTimeout(wake, Math.max(0, Math.ceil(dueAt - performance.now()))).unref()
    // Node's timers round to its loop's milliseconds and may fire one early: on a scaled clock that is many.
    const wake = () => {
      if (performance.now() < dueAt) timer = wait()
      else task()
    }
    let timer = wait()
    return () => clearTimeout(timer)
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal)
  }
}

/** The one implementation of `sleep`, on top of any clock's `after`. */
export function sleepOn(clock: Pick<Clock, 'after'>, ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.reject(signal.reason)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const abort = () => {
    cancel()
    reject(signal?.reason)
  }
  const cancel = clock.after(ms, () => {
    signal?.removeEventListener('abort', abort)
    resolve()
  })
  signal?.addEventListener('abort', abort, { once: true })
  return promise
}
