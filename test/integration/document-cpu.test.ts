import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { apiKeySchema } from '../../lib/fleet/api-key.ts'
import { configSchema, routeSchema } from '../../lib/fleet/config.ts'
import { readDocument } from '../../lib/fleet/documents/document.ts'
import { nodeSchema } from '../../lib/fleet/node.ts'
import { CpuReport, cpuMs } from '../support/cpu.ts'
import { heavyDocuments, mixedDocument } from '../support/heavy-documents.ts'

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

test('reads or refuses any document of up to 1 MiB within 20 ms of CPU (343)', (test) => {
  const report = new CpuReport()
  // The smaller ones stay below limits that the larger ones exceed, and are read to their end.
  for (const size of [3, 16, 64, 96, 128, 192, 255])
    for (const [name, text] of heavyDocuments(size * kib)) measure(report, `${size} KiB of ${name}`, text, 10)
  measure(report, '1 MiB', 'é'.repeat(512 * kib), 10)
  for (const line of report.lines()) test.diagnostic(line)
  assert(report.longest <= 20, report.lines().join('\n'))
})

test('reads or refuses mixtures of heavy parts within 20 ms of CPU (343)', () => {
  fc.assert(
    fc.property(mixedDocument(255 * kib), fc.constantFrom(configSchema, nodeSchema), (text, schema) => {
      assert(cpuMs(() => readDocument(text, schema), { enough: 10 }) <= 20)
    }),
    { numRuns: 60 },
  )
})
