/**
 * Milliseconds of CPU that this thread spends on `work`, at the speed of the reference core, which is how long the event loop would stand still on a machine
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
    best = Math.min(best, atReferenceSpeed(threadCpuMs() - before, enough))
  }
  return best
}

/** Milliseconds that a core at full speed takes for `reference`: 2.6 GHz (AMD EPYC), whose other thread is idle. */
const referenceMs = 1

/**
 * What a measured time would have been on the reference core. A virtual machine shares its cores with others: the same work
 * takes 1.6 times the CPU while a neighbour uses the core's other thread, and changes from one second to the next.
 */
function atReferenceSpeed(ms: number, enough: number): number {
  return ms < enough ? ms : ms / coreSlowness() // a correction only ever makes it less
}

/** How many times as long as on the reference core work takes now; at least 1. */
export function coreSlowness(): number {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < 3; round++) {
    const before = threadCpuMs()
    reference()
    least = Math.min(least, threadCpuMs() - before)
  }
  return Math.max(1, least / referenceMs)
}

function reference(): number {
  const sums = new Map<string, number>()
  let checksum = 0
  for (let n = 0; n < 20_000; n++) {
    const key = `k${n & 1023}`
    sums.set(key, (sums.get(key) ?? 0) + n)
    checksum = (checksum * 31 + key.length + n) | 0
  }
  return checksum + sums.size
}
for (let round = 0; round < 10; round++) reference() // compiled before it is a measure

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
    least = Math.min(least, atReferenceSpeed(meter.longest, enough))
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
