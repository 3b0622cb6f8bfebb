import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadSettings, SettingsError } from '../../lib/settings.ts'

test('the grace and the drain limit of a stop are durations with a unit, of a day at most', () => {
  assert.deepEqual(loadSettings({ grace: '0s', drain: '2m' }).patience, { graceMs: 0, drainMs: 120_000 })
  for (const drain of ['30', 'soon', '25h'])
    assert.throws(
      () => loadSettings({ drain }),
      (error) => error instanceof SettingsError && /^--drain: /.test(error.message),
    )
})
