import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { type ChaosOptions, type ChaosReport, withChaos } from './chaos.ts'
import { until } from './processes.ts'

/** No answer may take longer: every wait within has a limit, and this is more than their sum. */
const longestMs = 60_000

interface Promised extends ChaosOptions {
  /** Wait until idle sockets are given up and garbage is collected, too. */
  readonly isThorough: boolean
}

/** The promise of issue 4, as one test. */
export async function keepsItsPromise(test: TestContext, options: Promised): Promise<void> {
  test.diagnostic(`seed ${options.seed}`)
  await withChaos(options, async (report) => {
    const counts = Map.groupBy(report.records, ({ verdict }) => verdict)
    const tally = [...counts].map(([verdict, records]) => `${records.length} ${verdict}`)
    const slowest = Math.max(...report.records.map(({ ms }) => ms))
    test.diagnostic(
      `${report.faults} faults, ${report.records.length} requests (${tally.join(', ')}), ${report.peak} open at once, ` +
        `${report.attemptsRatio.toFixed(2)} attempts a request at most, slowest ${Math.round(slowest)} ms`,
    )
    assert.ok(report.peak >= options.streams * 0.95, `only ${report.peak} were open at once`)
    assert.deepEqual(
      offences(report),
      {},
      'every answer is complete, or begun and ended in an explicit error',
    )
    assert.ok(slowest <= longestMs, `one answer took ${Math.round(slowest)} ms`)
    assert.ok(report.attemptsRatio <= 1.2, `${report.attemptsRatio.toFixed(2)} attempts a request`)
    await isBackToBase(report, options.isThorough)
  })
}

/** What no answer may be, counted. */
function offences({ records }: ChaosReport): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { verdict, path, stream } of records) {
    if (verdict === 'complete' || (verdict === 'error' && stream)) continue
    const offence = `${path} ${stream ? 'stream' : 'whole'} ${verdict}`
    counts[offence] = (counts[offence] ?? 0) + 1
  }
  return counts
}

async function isBackToBase({ before, vitals }: ChaosReport, isThorough: boolean): Promise<void> {
  const isIdle = async () => {
    const { inFlight, queued, working } = await vitals()
    return inFlight + queued + working === 0
  }
  await until(isIdle, 'no slot, no place in the queue and no node is in use', 10_000)
  if (!isThorough) return
  const isSmall = async () => {
    const now = await vitals()
    return (
      now.sockets <= before.sockets + 5 &&
      now.timers <= before.timers + 5 &&
      now.heapMiB <= before.heapMiB * 1.5 + 16
    )
  }
  await until(isSmall, 'sockets, timers and memory are back to base', 120_000).catch(async (error) => {
    throw new Error(`${error.message}: ${JSON.stringify({ before, now: await vitals() })}`)
  })
}
