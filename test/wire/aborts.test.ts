import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { suite, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, type RawNode, rawAnswer, startRawNode } from '../support/wire.ts'

const ndjson = 'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n'
const line = `${JSON.stringify({ message: { content: 'a' }, done: false })}\n`
const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
const body = '{"model":"m"}'
const bytes = `POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`

type Gateway = Awaited<ReturnType<typeof startGateway>>
type Sketch = NonNullable<NonNullable<Parameters<typeof aSnapshot>[0]>['nodes']>

async function gatewayTo(nodes: Sketch): Promise<Gateway> {
  return startGateway(aSnapshot({ nodes, config: { timeouts: { connect: '5s' } } }))
}

function call({ port }: { port: number }): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(bytes)
  return socket
}

const isIdle = (gateway: Gateway) => {
  const { running, queued } = gateway.scheduler.summary()
  return queued === 0 && Object.keys(running).length === 0
}

/** The caller leaves now: within 50 ms nothing of its request is left, and nothing counts against a node. */
async function leave(caller: Socket, gateway: Gateway, gone: () => boolean): Promise<void> {
  const logged = gateway.lines.length
  const leftAt = performance.now()
  caller.resetAndDestroy()
  await eventually(() => gone() && isIdle(gateway), 'the request is closed and its slot is back')
  const tookMs = performance.now() - leftAt
  assert(tookMs <= 50, `it took ${tookMs} ms`)
  await eventually(() => gateway.lines.length > logged, 'it is logged')
  assert.equal(gateway.lines.at(-1)?.fields['status'], 499)
  assert.equal(gateway.lines.at(-1)?.fields['outcome'], 'client_cancelled')
  for (const node of gateway.current.get().nodes.keys())
    assert.equal(gateway.upstreams.breakerState(node), 'closed')
}

const allClosed = ({ received, closedAt }: RawNode) =>
  received.every((_, index) => closedAt[index] !== undefined)

/** Pending connects of this process. */
const connecting = () =>
  process.getActiveResourcesInfo().filter((resource) => resource === 'ConnectWrap').length

/** A port with a full backlog: a connect to it hangs. */
async function blackHole() {
  const script = `require('net').createServer().listen({port:0,host:'127.0.0.1',backlog:1},function(){process.stdout.write(this.address().port+'\\n')})`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [first] = (await once(child.stdout, 'data')) as [Buffer]
  child.kill('SIGSTOP')
  const port = Number(first)
  const fillers = Array.from({ length: 3 }, () => connect(port, '127.0.0.1').on('error', () => {}))
  await new Promise((resolve) => setTimeout(resolve, 50))
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      for (const filler of fillers) filler.destroy()
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

suite('a caller who leaves', () => {
  test('while it waits for a slot (160 queued)', async () => {
    await using node = await startRawNode(() => {})
    await using gateway = await gatewayTo([{ name: 'n', url: node.url, loaded: ['m:latest'], slots: 1 }])
    const first = call(gateway)
    await eventually(() => (node.received[0] ?? '').endsWith('}'), 'the node is busy')
    const second = call(gateway)
    await eventually(() => gateway.scheduler.summary().queued === 1, 'the second waits')
    const leftAt = performance.now()
    second.resetAndDestroy()
    await eventually(() => gateway.scheduler.summary().queued === 0, 'it left the queue')
    assert(performance.now() - leftAt <= 50)
    assert.equal(node.received.length, 1, 'the node never heard of it')
    await leave(first, gateway, () => allClosed(node))
  })

  test('while we connect (160 connecting)', async () => {
    await using hole = await blackHole()
    await using gateway = await gatewayTo([{ name: 'n', url: hole.url, loaded: ['m:latest'] }])
    const before = connecting()
    const caller = call(gateway)
    await eventually(() => !isIdle(gateway) && connecting() === before + 1, 'it is under way')
    await leave(caller, gateway, () => connecting() === before)
  })

  test('while the node is silent (160 waiting)', async () => {
    await using node = await startRawNode(() => {})
    await using gateway = await gatewayTo([{ name: 'n', url: node.url, loaded: ['m:latest'] }])
    const caller = call(gateway)
    await eventually(() => (node.received[0] ?? '').endsWith('}'), 'the node has the request')
    await leave(caller, gateway, () => allClosed(node))
  })

  test('while the node streams (160 streaming)', async () => {
    await using node = await startRawNode((socket) => socket.write(ndjson + chunk(line)))
    await using gateway = await gatewayTo([{ name: 'n', url: node.url, loaded: ['m:latest'] }])
    const caller = call(gateway)
    await once(caller, 'data')
    await leave(caller, gateway, () => allClosed(node))
  })

  test('while it reads nothing and the node is paused (160 paused)', async () => {
    await using flood = await startFlood()
    await using gateway = await gatewayTo([{ name: 'n', url: flood.node.url, loaded: ['m:latest'] }])
    const caller = call(gateway)
    caller.pause()
    await eventually(flood.isHeldBack, 'the node is held back', 5000)
    await leave(caller, gateway, () => allClosed(flood.node))
  })

  test('while it waits for a second node (160 between retries)', async () => {
    await using failing = await startRawNode((socket) => socket.resetAndDestroy())
    await using busy = await startRawNode(() => {})
    await using gateway = await gatewayTo([
      { name: 'busy', url: busy.url, loaded: ['m:latest'], slots: 1, weight: 2 },
      { name: 'failing', url: failing.url, loaded: ['m:latest'] },
    ])
    const first = call(gateway)
    await eventually(() => (busy.received[0] ?? '').endsWith('}'), 'the good node is busy')
    const second = call(gateway)
    await eventually(() => gateway.scheduler.summary().queued === 1, 'the second failed once and waits')
    const leftAt = performance.now()
    second.resetAndDestroy()
    await eventually(() => gateway.scheduler.summary().queued === 0, 'it left the queue')
    assert(performance.now() - leftAt <= 50)
    await leave(first, gateway, () => allClosed(busy))
  })
})

/** A node that writes an endless response as fast as possible. */
async function startFlood() {
  const piece = Buffer.from(chunk(line.repeat(500)))
  let held = 0
  const node = await startRawNode((socket, _bytes, nth) => {
    if (nth > 0) return
    socket.write(ndjson)
    const pour = () => {
      while (!socket.destroyed && socket.write(piece));
      held = performance.now()
    }
    socket.on('drain', pour)
    pour()
  })
  return {
    node,
    /** It could not write for 300 ms. */
    isHeldBack: () => held > 0 && performance.now() - held > 300,
    [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
  }
}

test('a stalled reader costs less than a MiB, and does not slow others (P16, 125)', async () => {
  const streams = 40
  await using flood = await startFlood()
  await using other = await startRawNode((socket) => socket.write(rawAnswer('{"done":true}')))
  await using gateway = await gatewayTo([
    { name: 'flood', url: flood.node.url, models: ['m:latest'], loaded: ['m:latest'], slots: streams },
    { name: 'other', url: other.url, models: ['o:latest'], loaded: ['o:latest'] },
  ])
  const before = heldBytes()
  const callers = Array.from({ length: streams }, () => call(gateway).pause())
  await eventually(() => gateway.scheduler.summary().running['flood'] === streams, 'all stream', 10_000)
  await eventually(flood.isHeldBack, 'the node is held back', 10_000)
  const each = (heldBytes() - before) / streams
  assert(each < 2 ** 20, `${Math.round(each / 1024)} KiB each`)
  const answer = await fetch(`${gateway.url}/api/chat`, { method: 'POST', body: '{"model":"o"}' })
  assert.equal(answer.status, 200)
  for (const caller of callers) caller.resetAndDestroy()
  await eventually(() => isIdle(gateway), 'all slots are back', 10_000)
})

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Memory of this process: the gateway, and the two ends of the test. */
function heldBytes(): number {
  collectGarbage()
  // Memory of dead buffers is freed in the background: the second collection waits for the first.
  collectGarbage()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

test('a node that accepts no connection fails within the connect limit, and another answers (137)', async () => {
  await using hole = await blackHole()
  await using good = await startRawNode((socket) => socket.write(rawAnswer('{"done":true}')))
  const nodes = [
    { name: 'hole', url: hole.url, loaded: ['m:latest'], weight: 2 },
    { name: 'good', url: good.url, loaded: ['m:latest'] },
  ]
  await using gateway = await startGateway(aSnapshot({ nodes, config: { timeouts: { connect: '300ms' } } }))
  const startedAt = performance.now()
  const answer = await fetch(`${gateway.url}/api/chat`, { method: 'POST', body })
  assert.equal(answer.headers.get('x-llamero-node'), 'good')
  assert(performance.now() - startedAt >= 300)
  const attempts = (await gateway.metrics.attempts.get()).values
  assert.equal(attempts.find(({ labels }) => labels.node === 'hole')?.labels.result, 'connect-timeout')
})

for (const [what, health, fault] of [
  ['whose probes time out', 'slow', 'timeout'],
  ['whose status routes answer nonsense', 'down', 'answer'],
] as const) {
  test(`a node ${what} keeps requests without a response (302)`, async () => {
    let answer = () => {}
    await using busy = await startRawNode((socket) => {
      answer = () => void socket.write(rawAnswer('{"done":true}'))
    })
    await using good = await startRawNode((socket) => socket.write(rawAnswer('{"done":true}')))
    const nodes = (advice: object) => [
      { name: 'busy', url: busy.url, loaded: ['m:latest'], weight: 2, ...advice },
      { name: 'good', url: good.url, loaded: ['m:latest'] },
    ]
    await using gateway = await startGateway(aSnapshot({ nodes: nodes({}) }))
    const ask = () =>
      fetch(`${gateway.url}/api/chat`, {
        method: 'POST',
        body: JSON.stringify({ model: 'm', stream: false }),
      })
    const waiting = ask()
    await eventually(() => (busy.received[0] ?? '').endsWith('}'), 'the node has the request')
    gateway.current.swap(aSnapshot({ nodes: nodes({ health, fault }) }))
    assert.equal((await ask()).headers.get('x-llamero-node'), 'good', 'others go elsewhere meanwhile')
    answer()
    assert.equal((await waiting).headers.get('x-llamero-node'), 'busy')
    assert.equal(busy.received.length, 1)
  })
}

test('a node that vanishes loses requests without a response (137)', async () => {
  await using mute = await startRawNode(() => {})
  await using good = await startRawNode((socket) => socket.write(rawAnswer('{"done":true}')))
  const nodes = (health: 'up' | 'down') => [
    { name: 'mute', url: mute.url, loaded: ['m:latest'], weight: 2, health },
    { name: 'good', url: good.url, loaded: ['m:latest'] },
  ]
  await using gateway = await startGateway(aSnapshot({ nodes: nodes('up') }))
  const whole = JSON.stringify({ model: 'm', stream: false })
  const answer = fetch(`${gateway.url}/api/chat`, { method: 'POST', body: whole })
  await eventually(() => (mute.received[0] ?? '').endsWith('}'), 'the node has the request')
  gateway.current.swap(aSnapshot({ nodes: nodes('down') }))
  assert.equal((await answer).headers.get('x-llamero-node'), 'good')
  await eventually(() => allClosed(mute), 'the request to the dead node is closed')
})
