import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { performance } from 'node:perf_hooks'
import { test } from 'node:test'
import { Probe } from '../../lib/cluster/probing/probe.ts'
import { nodeSchema } from '../../lib/fleet/node.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { LatenessWatch } from '../../lib/shared/process/lateness-watch.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'

const clock = new RealClock()
const going = new AbortController().signal

function aProbe(url: string) {
  const probe = new Probe({ spec: nodeSchema.parse({ url }), clock, connectMs: 5000, hungUp() {} })
  return {
    look: async (timeoutMs: number) => (await probe.run(timeoutMs, going)).finding,
    lookPatiently: (timeoutMs: number, patienceMs: number) => probe.run(timeoutMs, going, patienceMs),
    [Symbol.dispose]: () => probe.destroy(),
  }
}

/** A server that takes requests and answers none. */
async function aSilentServer() {
  const server = createServer(() => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

test('a node that takes the connection and does not answer in time has timed out (302)', async () => {
  await using server = await aSilentServer()
  using probe = aProbe(server.url)
  assert.deepEqual(await probe.look(400), { kind: 'timeout', reason: 'no answer within 400 ms' })
})

test('a node that answers later than a probe may take has timed out, and yet tells what models it has (302)', async () => {
  const models = [{ name: 'm:latest', digest: 'd'.repeat(64), size: 1 }]
  const server = createServer((request, response) => {
    if (request.url === '/api/ps') return
    setTimeout(() => response.end(JSON.stringify({ version: '0.12.6', models })), 500)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    using probe = aProbe(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const startedAt = performance.now()
    const { finding, version, models: told, loaded } = await probe.lookPatiently(300, 60_000)
    assert.deepEqual(finding, { kind: 'timeout', reason: 'no answer within 300 ms' })
    assert.deepEqual([version, told?.[0]?.name, loaded], ['0.12.6', 'm:latest', null])
    assert.ok(performance.now() - startedAt < 30_000, 'what hangs is not waited for')
  } finally {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

test('a node to which no connection comes up is unreachable, which is no timeout of an answer (302)', async () => {
  // A stopped process whose queue of new connections is full: the kernel drops every further SYN.
  const script = `require('net').createServer().listen(0, '127.0.0.1', 1, function () { console.log(this.address().port) })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const fillers: ReturnType<typeof connect>[] = []
  try {
    const port = Number(String((await once(child.stdout, 'data'))[0]))
    child.kill('SIGSTOP')
    for (let n = 0; n < 4; n++) fillers.push(connect(port, '127.0.0.1').on('error', () => {}))
    await clock.sleep(50)
    using probe = aProbe(`http://127.0.0.1:${port}`)
    assert.deepEqual(await probe.look(400), { kind: 'unreachable', reason: 'no connection within 400 ms' })
  } finally {
    for (const each of fillers) each.destroy()
    child.kill('SIGKILL')
  }
})

test('a node without a listener has refused (302)', async () => {
  using probe = aProbe('http://127.0.0.1:1')
  assert.deepEqual(await probe.look(500), { kind: 'refused', reason: 'connection refused' })
})

test('a timeout while this process itself was late is no finding (301)', async () => {
  await using server = await aSilentServer()
  using probe = aProbe(server.url)
  const finding = probe.look(200)
  await clock.sleep(20)
  const until = performance.now() + 250
  while (performance.now() < until); // the event loop is kept
  assert.deepEqual(await finding, { kind: 'none', reason: 'this instance itself was late' })
  assert.equal((await probe.look(400)).kind, 'timeout', 'the next one is judged by itself')
})

test('lateness is the sum of what timers were late by, and the wait for the one that is due (301)', async () => {
  const time = new VirtualClock()
  let skipped = 0
  /** A clock that can jump while no timer fires. */
  const jumpy = {
    now: () => time.now() + skipped,
    after: time.after.bind(time),
    date: time.date,
    sleep: time.sleep,
  }
  const watch = new LatenessWatch(jumpy, 100)
  await time.advance(1000)
  assert.equal(watch.lateMs, 0)
  skipped += 700
  assert.equal(watch.lateMs, 600, 'the next tick was due 600 ms ago')
  await time.advance(100)
  assert.equal(watch.lateMs, 700)
  await time.advance(1000)
  assert.equal(watch.lateMs, 700)
  watch.stop()
  assert.equal(time.nextTimerAt(), null)
})
