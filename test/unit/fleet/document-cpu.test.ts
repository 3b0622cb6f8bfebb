import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { apiKeySchema } from '../../../lib/fleet/api-key.ts'
import { configSchema, routeSchema } from '../../../lib/fleet/config.ts'
import { readDocument } from '../../../lib/fleet/documents/document.ts'
import { nodeSchema } from '../../../lib/fleet/node.ts'
import { CpuReport, cpuMs } from '../../support/cpu.ts'
import { heavyDocuments, mixedDocument } from '../../support/heavy-documents.ts'

const schemas = { config: configSchema, node: nodeSchema, route: routeSchema, key: apiKeySchema }
const kib = 1024

/** The longest that any schema takes to read a text. */
function measure(report: CpuReport, name: string, text: string, enough: number): void {
  for (const [kind, schema] of Object.entries(schemas))
    report.add(
      `${kind}: ${name}`,
      cpuMs(() => readDocument(text, schema), { enough }),
    )
}

test('reads or refuses any document of 64 KiB within 20 ms of CPU (343)', (test) => {
  const report = new CpuReport()
  // The smaller ones stay below limits that the larger ones exceed, and are read to their end.
  for (const size of [3, 8, 16, 32, 64])
    for (const [name, text] of heavyDocuments(size * kib)) measure(report, `${size} KiB of ${name}`, text, 10)
  for (const line of report.lines()) test.diagnostic(line)
  assert(report.longest <= 20, report.lines().join('\n'))
})

test('reads or refuses any document of 256 KiB within 50 ms of CPU (343)', (test) => {
  const report = new CpuReport()
  for (const [name, text] of heavyDocuments(256 * kib - 1)) measure(report, name, text, 25)
  for (const line of report.lines()) test.diagnostic(line)
  assert(report.longest <= 50, report.lines().join('\n'))
})

test('reads or refuses mixtures of heavy parts within 20 ms of CPU (343)', () => {
  fc.assert(
    fc.property(mixedDocument(64 * kib), fc.constantFrom(configSchema, nodeSchema), (text, schema) => {
      assert(cpuMs(() => readDocument(text, schema), { enough: 10 }) <= 20)
    }),
    { numRuns: 60 },
  )
})
