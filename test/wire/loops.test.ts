import assert from 'node:assert/strict'
import { test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { chat, get, post, startWireGateway } from '../support/wire-gateway.ts'

const keys = new Map([['team', apiKeySchema.parse({ hash: hashToken('llm_valid') })]])
const bearer = 'Authorization: Bearer llm_valid\r\n'

test('a request that has passed this cluster gets 508 on every path, before anything else (349)', async () => {
  await using wire = await startWireGateway({ keys })
  await wire.send(post('/api/chat', chat))
  const via = /^via: (.*)$/im.exec(wire.node.received.join(''))?.[1] ?? ''
  assert.match(via, /^1\.1 llamero-\w+$/)
  const before = wire.node.received.length
  for (const header of [`Via: ${via}`, `Via: 1.1 nginx, ${via.toUpperCase()}`, `Via: ${via}, 1.0 x`])
    for (const [path, body] of [
      ['/api/chat', chat],
      ['/v1/messages', chat],
      ['/api/show', '{"model":"m"}'],
      ['/api/pull', '{"model":"m"}'],
      ['/nothing', '{}'],
    ] as const)
      assert.match(
        await wire.send(post(path, body, `${header}\r\n${bearer}`)),
        /^HTTP\/1\.1 508 Loop Detected/,
        path,
      )
  assert.match(await wire.send(get('/', `Host: x\r\nVia: ${via}\r\n`)), /^HTTP\/1\.1 508 /)
  assert.equal(wire.node.received.length, before)
  await wire.assertWell()
})

test('the node gets the Via of the request, with this cluster appended (349)', async () => {
  await using wire = await startWireGateway({ keys })
  const answer = await wire.send(post('/api/chat', chat, `Via: 1.1 edge, 1.1 llamero-other\r\n${bearer}`))
  assert.match(answer, /^HTTP\/1\.1 200 /)
  assert.match(wire.node.received.join(''), /^via: 1\.1 edge, 1\.1 llamero-other, 1\.1 llamero-\w+\r$/im)
  await wire.assertWell()
})
