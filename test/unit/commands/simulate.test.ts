import assert from 'node:assert/strict'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { simulateNode } from '../../../lib/commands/simulate.ts'

test('a simulated node is not started without one of the models that it was to have', async () => {
  const stderr = new PassThrough()
  const options = { name: 'n', port: 0, models: ['qwen3:8b', 'qwen3:9b'], speed: 1, slots: 1 }
  assert.equal(await simulateNode(options, { stdout: new PassThrough(), stderr }), 2)
  assert.match(String(stderr.read()), /^error: no simulated model qwen3:9b\n {2}hint: there are .*qwen3:8b/)
})

test('its models may be named as Ollama reads names: without the tag, in any case (331)', async () => {
  const stdout = new PassThrough()
  const options = { name: 'n', port: 0, models: ['Nomic-Embed-Text', 'library/qwen3:8B'], speed: 1, slots: 1 }
  const ended = simulateNode(options, { stdout, stderr: new PassThrough() })
  const [said] = (await once(stdout, 'data')) as [Buffer]
  assert.match(String(said), /: qwen3:8b, nomic-embed-text:latest$/m)
  process.emit('SIGTERM', 'SIGTERM')
  assert.equal(await ended, 0)
})
