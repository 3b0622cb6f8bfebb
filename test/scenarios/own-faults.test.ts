import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { adminTokenFile } from '../../lib/settings/admin-token.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { InstanceProcess, until } from '../support/processes.ts'

/** Enough to start, little enough to use up at once. */
const files = 120
const place = { address: '127.0.0.1', command: ['sh', '-c', `ulimit -n ${files}; exec "$0" "$@"`] }

/** A caller with one connection that it keeps. */
function caller(base: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  return {
    async ask(path: string, body?: object, { method = body ? 'POST' : 'GET', headers = {} } = {}) {
      const asked = request(`${base}${path}`, { agent, method, headers })
      asked.end(body && JSON.stringify(body))
      const [answer] = await once(asked, 'response')
      let text = ''
      for await (const chunk of answer) text += chunk
      return { status: answer.statusCode as number, headers: answer.headers, text }
    },
    [Symbol.dispose]: () => agent.destroy(),
  }
}

test('an instance without free file descriptors logs it, blames no node, and recovers (309)', async () => {
  const models = [aModel({ name: 'm:1b', loadMs: 10, promptTps: 10_000, decodeTps: 50 })]
  await using stack = new AsyncDisposableStack()
  const nodes = await Promise.all(
    ['n', 'late'].map((name) => SimulatedNode.start({ name, models, numParallel: 8 })),
  )
  stack.defer(() => Promise.all(nodes.map((node) => node.stop())).then(() => {}))
  const [node, late] = nodes
  assert(node && late)
  const instance = await InstanceProcess.start('a', {}, 'serve', place)
  stack.defer(() => instance.stop())
  const admin = stack.use(caller(instance.adminUrl))
  const callers = Array.from({ length: 6 }, () => stack.use(caller(instance.url)))
  assert.equal((await instance.cli('node', 'add', 'n', node.url, '--slots', '8')).code, 0)
  assert.equal((await instance.cli('config', 'set', 'probes.interval=200ms')).code, 0)
  const chat = {
    model: 'm:1b',
    messages: [{ role: 'user', content: 'hi' }],
    options: { num_predict: 20 },
    stream: false,
  }
  const chatOf = (each: ReturnType<typeof caller>) => each.ask('/api/chat', chat)
  const first = callers.slice(0, 1)
  await until(async () => (await Promise.all(first.map(chatOf)))[0]?.status === 200, 'n answers', 10_000)
  // Each connection is opened now: when no file is left, a new one would be closed unread.
  for (const each of callers) await each.ask('/api/version')
  await admin.ask('/livez')

  const idle: Socket[] = []
  stack.defer(() => {
    for (const socket of idle) socket.destroy()
  })
  const { port, hostname } = new URL(instance.url)
  for (let n = 0; n < files; n++) idle.push(connect(Number(port), hostname).on('error', () => {}))
  await until(async () => (await admin.ask('/readyz')).status === 503, 'it is not ready', 5000)
  assert.equal((await admin.ask('/readyz')).text, 'out of file descriptors\n')

  // One connection to the node is kept from before; the others cannot be made.
  const answers = await Promise.all(callers.map(chatOf))
  const refused = answers.filter(({ status }) => status !== 200)
  assert.ok(refused.length > 0)
  for (const { status, text, headers } of refused) {
    assert.equal(status, 503, text)
    assert.match(text, /llamero is out of file descriptors on this instance; try again/)
    assert.ok(headers['retry-after'])
  }
  const token = await readFile(adminTokenFile(instance.env['LLAMERO_STATE'] ?? ''), 'utf8')
  const headers = { authorization: `Bearer ${token.trim()}`, 'content-type': 'application/json' }
  const added = await admin.ask('/admin/v1/nodes/late', { url: late.url }, { method: 'PUT', headers })
  assert.equal(added.status, 201, added.text)
  await sleep(1500) // several probes of a node of which nothing is known, each of which fails for want of a file
  const health = async (name: string) => JSON.parse((await admin.ask(`/admin/v1/nodes/${name}`)).text).health
  assert.equal(await health('late'), 'unknown')
  assert.equal(await health('n'), 'up')

  const metrics = (await admin.ask('/metrics')).text
  assert.match(metrics, /^llamero_own_faults_total\{resource="files"\} [1-9]/m)
  assert.match(metrics, /^llamero_own_resource_lacking\{resource="files"\} 1$/m)
  assert.doesNotMatch(metrics, /circuit_breaker_state\{node="n",state="open"\} 1/)
  assert.equal(instance.log.split('this instance is out of a resource').length, 2, 'one line')

  for (const socket of idle.splice(0)) socket.destroy()
  await until(async () => (await admin.ask('/readyz')).status === 200, 'it is ready again', 10_000)
  await until(async () => (await health('late')) === 'up', 'the new node is probed', 10_000)
  for (const { status } of await Promise.all(callers.map(chatOf))) assert.equal(status, 200)
})
