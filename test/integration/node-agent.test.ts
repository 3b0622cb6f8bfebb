import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type ClientRequest, createServer, request, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { test } from 'node:test'
import { agentFor } from '../../lib/gateway/availability/keepalive-agent.ts'
import { eventually } from '../support/wire.ts'

/** A node whose connections are counted, and an agent for it. */
async function arrange() {
  const waiting: ServerResponse[] = []
  const server = createServer((_request, response) => void waiting.push(response))
  server.keepAliveTimeout = 0
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const agent = agentFor({ url: `http://127.0.0.1:${port}` } as Parameters<typeof agentFor>[0])
  const connections = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    connections.add(socket)
    socket.once('close', () => connections.delete(socket))
  })
  const begin = () => request({ agent, host: '127.0.0.1', port }).end()
  const end = async (asked: ClientRequest) => {
    const answered = once(asked, 'response')
    await eventually(() => waiting.length > 0, 'the request is there')
    waiting.shift()?.end('answer')
    const [answer] = await answered
    answer.resume()
    await once(answer, 'close')
    return asked.reusedSocket
  }
  const hasConnections = (count: number) =>
    eventually(() => connections.size === count, `${count} connections are open`)
  const stop = () => {
    agent.destroy()
    server.closeAllConnections()
    server.close()
  }
  return { agent, begin, end, hasConnections, [Symbol.dispose]: stop }
}

test('requests that follow each other share one socket, those at once have one each', async () => {
  using node = await arrange()
  assert.equal(await node.end(node.begin()), false)
  for (let nth = 0; nth < 3; nth++) assert.equal(await node.end(node.begin()), true)
  await node.hasConnections(1)
  const [first, second] = [node.begin(), node.begin()]
  assert.deepEqual([await node.end(first), await node.end(second)], [true, false])
  await node.hasConnections(2)
})

test('a sweep closes the sockets that stayed idle since the last sweep', async () => {
  using node = await arrange()
  const [first, second] = [node.begin(), node.begin()]
  await Promise.all([node.end(first), node.end(second)])
  node.agent.closeIdle()
  assert.equal(await node.end(node.begin()), true)
  await node.hasConnections(2)
  node.agent.closeIdle()
  await node.hasConnections(1)
  assert.equal(await node.end(node.begin()), true)
  node.agent.closeIdle()
  await node.hasConnections(1)
  node.agent.closeIdle()
  await node.hasConnections(0)
  assert.equal(await node.end(node.begin()), false, 'and then it begins anew')
})

test('a retired agent keeps no socket', async () => {
  using node = await arrange()
  const [first, second] = [node.begin(), node.begin()]
  await node.end(first)
  node.agent.drain()
  await node.hasConnections(1)
  await node.end(second)
  await node.hasConnections(0)
})
