import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { simulateNode } from '../../../lib/commands/simulate.ts'

test('a simulated node is not started without one of the models that it was to have', async () => {
  const stderr = new PassThrough()
  const options = { name: 'n', port: 0, models: ['qwen3:8b', 'qwen3:9b'], speed: 1, slots: 1 }
  assert.equal(await simulateNode(options, { stdout: new PassThrough(), stderr }), 2)
  assert.match(String(stderr.read()), /^error: no simulated model qwen3:9b\n {2}hint: there are .*qwen3:8b/)
})
