import assert from 'node:assert/strict'
import { test } from 'node:test'
import { configSchema } from '../../../lib/fleet/config.ts'
import { keepAliveOf, keepAliveSchema } from '../../../lib/fleet/keep-alive.ts'
import { nodeSchema } from '../../../lib/fleet/node.ts'

test('a load sends the keep_alive of the node, else of the config, and none for "own" (369)', () => {
  const node = (keep_alive?: number | string) =>
    nodeSchema.parse({ url: 'http://h:1', ...(keep_alive !== undefined && { keep_alive }) })
  const config = (keep_alive?: number | string) => configSchema.parse({ routing: { keep_alive } })
  assert.deepEqual(keepAliveOf(node(), config()), { keep_alive: '1h' })
  assert.deepEqual(keepAliveOf(undefined, config()), { keep_alive: '1h' })
  assert.deepEqual(keepAliveOf(node('30m'), config('own')), { keep_alive: '30m' })
  assert.deepEqual(keepAliveOf(node(-1), config()), { keep_alive: -1 })
  assert.deepEqual(keepAliveOf(node('own'), config()), {})
  assert.deepEqual(keepAliveOf(node(), config('own')), {})
})

test('a keep_alive is a value that Ollama takes, or own; a value that unloads at once is refused (369)', () => {
  const isValid = (value: unknown) => keepAliveSchema.safeParse(value).success
  for (const value of ['30m', '1h30m', '-1s', '0.5s', 300, -1, 'own']) assert.ok(isValid(value), `${value}`)
  for (const value of ['0s', 0, '', '5', 'ever', '1d', null, true, '-'])
    assert.ok(!isValid(value), `${value}`)
})
