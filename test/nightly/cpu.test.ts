import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { readTags } from '../../lib/cluster/probing/inventory.ts'
import { apiKeySchema } from '../../lib/fleet/api-key.ts'
import { configSchema, routeSchema } from '../../lib/fleet/config.ts'
import { readDocument } from '../../lib/fleet/documents/document.ts'
import { nodeSchema } from '../../lib/fleet/node.ts'
import { measureBodies } from '../support/body-cpu.ts'
import { CpuReport, cpuMs, longestTurnMs } from '../support/cpu.ts'
import { heavyBodies, heavyBody } from '../support/heavy-bodies.ts'
import { mixedDocument } from '../support/heavy-documents.ts'

const kib = 1024
const mib = kib * kib
const minutes = 5
const seed = Date.now() % 2 ** 31

suite('the longest turn of the event loop', { timeout: 60 * 60_000 }, () => {
  test('by documents of 255 KiB is 20 ms (343)', (test) => {
    test.diagnostic(`seed ${seed}`)
    const report = new CpuReport()
    const schema = fc.constantFrom(configSchema, routeSchema, nodeSchema, apiKeySchema)
    fc.assert(
      fc.property(mixedDocument(255 * kib), schema, (text, each) => {
        const ms = cpuMs(() => readDocument(text, each), { enough: 10 })
        report.add(JSON.stringify(text.slice(0, 60)), ms)
        assert(ms <= 20, `${ms} ms`)
      }),
      { seed, numRuns: 1_000_000, interruptAfterTimeLimit: minutes * 60_000 },
    )
    for (const line of report.lines()) test.diagnostic(line)
  })

  for (const [size, limit] of [
    [mib, 20],
    [16 * mib, 50],
    [64 * mib, 50],
  ] as const)
    test(`by bodies of ${size / mib} MiB is ${limit} ms (345)`, async (test) => {
      const report = await measureBodies(heavyBodies, size, limit * 0.8)
      for (const line of report.lines()) test.diagnostic(line)
      assert(report.longest <= limit, report.lines().join('\n'))
    })

  test('by what a node says it has is 20 ms (346)', async (test) => {
    const report = new CpuReport()
    for (const name of heavyBodies) {
      const { bytes } = heavyBody(name, 8 * mib)
      for (const [field, body] of [
        ['', bytes],
        ['models', Buffer.from(`{"models":[${bytes.toString('latin1')}]}`, 'latin1')],
      ] as const)
        report.add(`${name} ${field}`, await longestTurnMs(() => readTags(body), { enough: 10, rounds: 3 }))
    }
    for (const line of report.lines()) test.diagnostic(line)
    assert(report.longest <= 20, report.lines().join('\n'))
  })
})
