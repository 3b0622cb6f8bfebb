import assert from 'node:assert/strict'
import { test } from 'node:test'
import { measureBodies } from '../support/body-cpu.ts'
import { heavyBodies } from '../support/heavy-bodies.ts'

const mib = 1024 * 1024

test('no body of 1 MiB takes a turn of the event loop longer than 20 ms (345)', async (test) => {
  const report = await measureBodies(heavyBodies, mib, 10)
  for (const line of report.lines()) test.diagnostic(line)
  assert(report.longest <= 20, report.lines().join('\n'))
})

test('nor does one of 64 KiB, which is checked at once (345)', async (test) => {
  const report = await measureBodies(heavyBodies, 64 * 1024 - 100, 10)
  for (const line of report.lines()) test.diagnostic(line)
  assert(report.longest <= 20, report.lines().join('\n'))
})

test('no body of 64 MiB takes a turn longer than 50 ms (345)', async (test) => {
  const report = await measureBodies(['numbers', 'escapes', 'an image', 'open brackets'], 64 * mib, 40)
  for (const line of report.lines()) test.diagnostic(line)
  assert(report.longest <= 50, report.lines().join('\n'))
})
