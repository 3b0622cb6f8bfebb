import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Callers } from '../support/callers.ts'
import { type ChaosOptions, type ChaosReport, withChaos } from '../support/chaos.ts'
import { until } from '../support/processes.ts'

interface Promised extends ChaosOptions {
  /** Wait until idle sockets are given up and garbage is collected, too. */
  readonly isThorough: boolean
}

/** The promise of issue 4, as one test. */
export async function keepsItsPromise(test: TestContext, options: Promised): Promise<void> {
  test.diagnostic(`seed ${options.seed}`)
  await withChaos(options, async (report) => {
    const { callers, retries, faults, seenByNodes } = report
    const ratio = retries.worstRatio(callers.asked)
    const slowest = callers.asked.reduce((most, { ms }) => Math.max(most, ms), 0)
    const attempts = callers.asked.reduce((sum, asked) => sum + asked.attempts, 0)
    test.diagnostic(
      `${faults} faults, ${callers.asked.length} requests (${tally(callers)}), ${callers.peak} open at once, ` +
        `${attempts} attempts (${seenByNodes} seen by nodes), ${ratio.toFixed(2)} a request at most, slowest ${Math.round(slowest)} ms`,
    )
    assert.ok(callers.peak >= options.streams * 0.95, `only ${callers.peak} were open at once`)
    assert.deepEqual(
      offences(callers),
      {},
      'every answer is complete, or begun and ended in an explicit error',
    )
    assert.ok(ratio <= 1.2, `${ratio.toFixed(2)} attempts a request within ten seconds`)
    const { besides, retries: retried } = await report.vitals()
    assert.ok(attempts <= callers.asked.length + retried + besides, 'no retry was made in secret')
    assert.ok(seenByNodes <= attempts + besides, 'no node was asked in secret')
    await isBackToBase(report, options.isThorough)
  })
}

function tally({ asked }: Callers): string {
  const byVerdict = Map.groupBy(asked, ({ verdict }) => verdict)
  return [...byVerdict].map(([verdict, { length }]) => `${length} ${verdict}`).join(', ')
}

/** What no answer may be: how many were, and the last words of one of them. */
function offences({ asked }: Callers): Record<string, [number, string]> {
  const found: Record<string, [number, string]> = {}
  for (const { verdict, path, stream, lastWords } of asked) {
    if (verdict === 'complete' || verdict === 'error') continue
    const offence = `${path} ${stream ? 'stream' : 'whole'} ${verdict}`
    found[offence] = [(found[offence]?.[0] ?? 0) + 1, lastWords]
  }
  return found
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
