/**
 * Milliseconds of CPU that this thread spends on `work`, which is how long the event loop would stand still on a machine
 * that does nothing else. The best of a few repeats, since caches and garbage of others count too; once is enough for what
 * takes less than `enough`.
 */
export function cpuMs(
  work: () => unknown,
  { enough, repeats = 5 }: { enough: number; repeats?: number },
): number {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < repeats && best >= enough; round++) {
    const before = threadCpuMs()
    work()
    best = Math.min(best, threadCpuMs() - before)
  }
  return best
}

/** What took how long, the longest first, for a report. */
export class CpuReport {
  readonly #rows: { readonly name: string; readonly ms: number }[] = []

  add(name: string, ms: number): void {
    this.#rows.push({ name, ms })
    this.#rows.sort((a, b) => b.ms - a.ms)
  }

  get longest(): number {
    return this.#rows[0]?.ms ?? 0
  }

  /** The longest five as lines. */
  lines(): string[] {
    return this.#rows.slice(0, 5).map(({ name, ms }) => `${ms.toFixed(1)} ms ${name}`)
  }
}

/**
 * Milliseconds of CPU of the longest turn of the event loop while `work` runs; what else the machine does is no part of it.
 * The least of some rounds: what blocks does so each time, whereas garbage is collected now and then.
 */
export async function longestTurnMs(
  work: () => Promise<unknown>,
  { enough = 0, rounds = 5 } = {},
): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < rounds && least > enough; round++) {
    using meter = new TurnMeter()
    await work()
    await new Promise((resolve) => setImmediate(resolve)) // the turn in which it ended counts too
    least = Math.min(least, meter.longest)
  }
  return least
}

class TurnMeter {
  longest = 0
  #before = threadCpuMs()
  #next = setImmediate(() => this.#turn())

  #turn(): void {
    this.longest = Math.max(this.longest, threadCpuMs() - this.#before)
    this.#before = threadCpuMs()
    this.#next = setImmediate(() => this.#turn())
  }

  [Symbol.dispose](): void {
    clearImmediate(this.#next)
  }
}

/** Milliseconds of CPU of this thread since it began. */
function threadCpuMs(): number {
  // Linux books the running thread's time once a tick, so that up to 4 ms are missing; asking for the whole process books it.
  process.cpuUsage()
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}
