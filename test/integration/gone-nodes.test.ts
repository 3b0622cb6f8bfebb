import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { freePort } from '../support/processes.ts'

test('a request for a model only on hosts that just died gets a reason and Retry-After before the hosts are marked down (310)', async () => {
  const nodes = await Promise.all(
    ['a', 'b'].map(async (name) => ({
      name,
      url: `http://127.0.0.1:${await freePort()}`,
      models: ['m:latest'],
      loaded: ['m:latest'],
    })),
  )
  await using gateway = await startGateway(aSnapshot({ nodes }))
  for (const path of ['/api/chat', '/v1/chat/completions', '/v1/messages']) {
    const body = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'hi' }], max_tokens: 5 })
    const answer = await fetch(gateway.url + path, { method: 'POST', body })
    assert.ok([502, 503].includes(answer.status), `${answer.status}`)
    assert.match(await answer.text(), /try again in a few seconds/)
    assert.equal(answer.headers.get('retry-after'), '5', path)
  }
})
