import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { configSchema, defaultConfig } from '../../../lib/fleet/config.ts'
import { writtenConfig } from '../../../lib/fleet/document-schemas.ts'
import { parseDuration, writeDuration } from '../../../lib/shared/duration.ts'

test('a duration is written in the largest unit that needs no fraction', () => {
  const cases = [
    [0, '0ms'],
    [1500, '1500ms'],
    [90_000, '90s'],
    [60_000, '1m'],
    [3_600_000, '1h'],
  ] as const
  for (const [ms, text] of cases) assert.equal(writeDuration(ms), text)
})

test('a written duration is read back as it was', () => {
  fc.assert(fc.property(fc.nat(7 * 86_400_000), (ms) => parseDuration(writeDuration(ms)) === ms))
})

test('the config as it is written reads back as the same config', () => {
  assert.deepEqual(configSchema.parse(writtenConfig(defaultConfig)), defaultConfig)
  assert.equal(writtenConfig(defaultConfig).timeouts?.first_token, '5m')
})
