import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { Probe } from '../../lib/cluster/probing/probe.ts'
import { nodeSchema } from '../../lib/fleet/node.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'

/** A proxy that has an Ollama under `/ollama`, and nothing else. */
async function arrange() {
  const node = await SimulatedNode.start({ name: 'n', models: [aModel({ name: 'm:latest', loadMs: 0 })] })
  const proxy = createServer((asked, answer) => {
    const { method = 'GET', url = '', headers } = asked
    if (!url.startsWith('/ollama/')) {
      answer.writeHead(404, { 'content-type': 'text/html' }).end('<html>no such site</html>')
      return
    }
    const target = { port: node.port, host: '127.0.0.1', path: url.slice('/ollama'.length), method, headers }
    const passed = request(target, (got) => {
      answer.writeHead(got.statusCode ?? 502, got.headers)
      got.pipe(answer)
    })
    asked.pipe(passed)
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const { port } = proxy.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/ollama`,
    async [Symbol.asyncDispose]() {
      proxy.closeAllConnections()
      proxy.close()
      await node.stop()
    },
  }
}

test('a node under a path serves chats, loads, and shows its models (321)', async () => {
  await using site = await arrange()
  await using gateway = await startGateway(
    aSnapshot({ nodes: [{ name: 'n', url: `${site.url}/`, models: ['m:latest'] }] }),
  )
  const post = (path: string, body: object) =>
    fetch(`${gateway.url}${path}`, { method: 'POST', body: JSON.stringify({ model: 'm', ...body }) })
  const messages = [{ role: 'user', content: 'hello' }]
  for (const path of ['/api/chat', '/v1/chat/completions']) {
    const answer = await post(path, { messages, stream: false })
    assert.equal(answer.status, 200, await answer.text())
  }
  assert.equal((await post('/api/show', {})).status, 200)
})

test('a node under a path is probed there (321)', async () => {
  await using site = await arrange()
  const spec = nodeSchema.parse({ url: site.url })
  const probe = new Probe({ spec, clock: new RealClock(), connectMs: 2000, hungUp: () => {} })
  const look = await probe.run(5000, new AbortController().signal)
  probe.destroy()
  assert.deepEqual(
    look.models?.map(({ name }) => name),
    ['m:latest'],
  )
})
