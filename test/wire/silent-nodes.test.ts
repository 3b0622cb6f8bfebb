import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { RealClock } from '../../lib/shared/clock.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, type RawNode, rawAnswer, startRawNode } from '../support/wire.ts'

/** The clock runs twenty times as fast, so that seconds of waiting take milliseconds. */
const scale = 0.05
const ms = (clockMs: number) => clockMs * scale

type Gateway = Awaited<ReturnType<typeof startGateway>>

/** A node that responds until the test makes it silent: it then accepts requests without a response. */
interface Mutable {
  readonly node: RawNode
  /** It answers no chats. */
  isMute: boolean
  /** It responds to nothing, and later to all that came meanwhile. */
  isFrozen: boolean
  /** Milliseconds until it answers its status routes. */
  statusMs: number
  /** Milliseconds until it answers. */
  delayMs: number
  requests: number
}

async function aNode(): Promise<Mutable> {
  const state = { isMute: false, isFrozen: false, statusMs: 0, delayMs: 0, requests: 0 }
  const answer = (socket: Socket, body: string, delayMs: number) => {
    if (delayMs > 0) setTimeout(() => answer(socket, body, 0), delayMs)
    else if (socket.destroyed) return
    else if (state.isFrozen) setTimeout(() => answer(socket, body, 0), 5)
    else socket.write(rawAnswer(body))
  }
  const node = await startRawNode((socket, bytes) => {
    if (!bytes.startsWith('POST')) return answer(socket, '{"version":"0.33.0"}', state.statusMs)
    state.requests++
    if (!state.isMute) answer(socket, '{"message":{"content":"hi"},"done":true}', state.delayMs)
  })
  return Object.assign(state, { node })
}

/** Nodes a (chosen first) and b, both with model m in memory. */
async function arrange({
  names = ['a', 'b'],
  loaded = ['m:latest'],
  loadedOn,
  config = {},
}: {
  names?: string[]
  loaded?: string[]
  /** Nodes that have it in memory; all by default. */
  loadedOn?: string[]
  config?: object
} = {}) {
  const nodes = await Promise.all(names.map(aNode))
  const snapshot = aSnapshot({
    nodes: nodes.map(({ node }, index) => ({
      name: names[index] ?? '',
      url: node.url,
      models: ['m:latest'],
      loaded: (loadedOn ?? names).includes(names[index] ?? '') ? loaded : [],
      slots: 8,
      weight: index === 0 ? 50 : 1,
    })),
    config: { timeouts: { connect: '300ms' }, ...config },
  })
  const gateway = await startGateway(snapshot, { clock: new RealClock(scale) })
  return {
    gateway,
    nodes: nodes as [Mutable, Mutable],
    snapshot,
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      for (const { node } of nodes) await node[Symbol.asyncDispose]()
    },
  }
}

/** Node a, only for requests in flight. */
function cordoned({ url }: RawNode) {
  return { name: 'a', url, loaded: ['m:latest'], slots: 8, weight: 50, state: 'cordoned' as const }
}

async function ask(gateway: Gateway, { stream = true } = {}) {
  const body = JSON.stringify({ model: 'm', stream, messages: [{ role: 'user', content: 'x' }] })
  const answer = await fetch(`${gateway.url}/api/chat`, { method: 'POST', body })
  const { headers, status } = answer
  const text = await answer.text()
  return {
    status,
    text,
    node: headers.get('x-llamero-node'),
    attempts: Number(headers.get('x-llamero-attempts')),
  }
}

/** Enough responses that the times of a node are well known. */
async function warmUp(gateway: Gateway, kind = {}): Promise<void> {
  for (let n = 0; n < 12; n++) assert.equal((await ask(gateway, kind)).node, 'a')
}

async function results({ metrics }: Gateway, node: string) {
  const series = (await metrics.attempts.get()).values.filter(({ labels }) => labels.node === node)
  return Object.fromEntries(series.map(({ labels, value }) => [labels.result, value]))
}

async function swallows({ metrics }: Gateway, node: string) {
  return (await metrics.nodeSwallows.get()).values.find(({ labels }) => labels.node === node)?.value ?? 0
}

for (const stream of [true, false]) {
  const kind = stream ? 'streamed' : 'whole'

  suite(`a node that swallows chats but answers probes (${kind})`, () => {
    test('loses a request after seconds, is ejected after the third, and is logged (305)', async () => {
      await using fleet = await arrange()
      const { gateway, nodes } = fleet
      const [a] = nodes
      await warmUp(gateway, { stream })
      a.isMute = true
      for (let n = 0; n < 3; n++) {
        const answer = await ask(gateway, { stream })
        assert.deepEqual([answer.status, answer.node, answer.attempts], [200, 'b', 2])
      }
      assert.equal(gateway.upstreams.breakerState('a'), 'open')
      assert.equal((await ask(gateway, { stream })).attempts, 1, 'the next goes elsewhere at once')
      const [warning] = gateway.lines.filter(({ level }) => level === 'warn')
      assert.equal(warning?.message, 'node answers probes, swallows chats: restart Ollama there')
      assert.deepEqual([warning?.fields['node'], warning?.fields['model']], ['a', 'm:latest'])
      assert.equal(await swallows(gateway, 'a'), 1)

      a.isMute = false
      await eventually(() => gateway.upstreams.breakerState('a') !== 'open', 'the pause is over')
      await ask(gateway, { stream })
      await eventually(
        () => gateway.lines.some(({ message }) => message === 'node answers chats again'),
        'it is told',
      )
      assert.equal(await swallows(gateway, 'a'), 0)
    })

    test('loses all waiting requests when it is ejected, and gets no more time than before (305)', async () => {
      await using fleet = await arrange()
      const { gateway, nodes } = fleet
      const [a] = nodes
      await warmUp(gateway, { stream })
      const expected = () =>
        gateway.upstreams.expected.of(
          { node: 'a', model: 'm:latest', timed: stream ? 'first-token' : 'whole', bodyBytes: 70 },
          true,
          0,
        ).ms
      const before = expected()
      a.isMute = true
      const answers = await Promise.all(Array.from({ length: 6 }, () => ask(gateway, { stream })))
      for (const { status, node } of answers) assert.deepEqual([status, node], [200, 'b'])
      // Answers of b may have taken a little longer than those before; what a was given would be seconds.
      assert(expected() - before < 2000, `a timeout teaches no patience: ${before}, ${expected()}`)
    })
  })
}

suite('a node that is silent', () => {
  test('but responds to others is slow, and not ejected (305)', async () => {
    await using fleet = await arrange()
    const { gateway, nodes } = fleet
    const [a] = nodes
    await warmUp(gateway)
    // Six wait there for long, while answers to others come now and then.
    a.delayMs = ms(9000)
    const slow = Array.from({ length: 6 }, () => ask(gateway))
    await eventually(() => a.requests === 18, 'the node has all')
    a.delayMs = 0
    const end = performance.now() + ms(8000)
    while (performance.now() < end) {
      await ask(gateway)
      await sleep(ms(500))
    }
    for (const { status } of await Promise.all(slow)) assert.equal(status, 200)
    assert.equal(gateway.upstreams.breakerState('a'), 'closed')
    assert.equal(await swallows(gateway, 'a'), 0)
  })

  test('with unstreamed responses that are long on every node is not ejected (305)', async () => {
    await using fleet = await arrange()
    const { gateway, nodes } = fleet
    await warmUp(gateway, { stream: false })
    for (const each of nodes) each.delayMs = ms(9000)
    const answers = await Promise.all(Array.from({ length: 6 }, () => ask(gateway, { stream: false })))
    for (const { status, attempts } of answers) assert(status === 200 && attempts <= 2)
    assert.equal(gateway.upstreams.breakerState('a'), 'closed')
    assert.equal(await swallows(gateway, 'a'), 0)
  })

  test('keeps the first request for an unknown model for 14 s (312)', async () => {
    await using fleet = await arrange()
    for (const each of fleet.nodes) each.delayMs = ms(14_000)
    const answer = await ask(fleet.gateway)
    assert.deepEqual([answer.status, answer.node, answer.attempts], [200, 'a', 1])
  })

  test('loses the request for an unknown model once another node has responded for it (305)', async () => {
    await using fleet = await arrange()
    const { gateway, nodes, snapshot } = fleet
    const [a, b] = nodes
    a.isMute = true
    const first = ask(gateway)
    await eventually(() => a.requests === 1, 'the node has it')
    gateway.current.swap(
      aSnapshot({
        nodes: [{ name: 'b', url: b.node.url, loaded: ['m:latest'], slots: 8 }, cordoned(a.node)],
      }),
    )
    assert.equal((await ask(gateway)).node, 'b')
    gateway.current.swap(snapshot)
    const since = performance.now()
    assert.deepEqual(await first.then(({ node, attempts }) => [node, attempts]), ['b', 2])
    assert(performance.now() - since < ms(50_000), 'it did not wait for the minute of an unknown model')
  })

  test('loses a request once for being slow; the next node keeps it (312)', async () => {
    await using fleet = await arrange({ names: ['a', 'b', 'c'] })
    const { gateway, nodes, snapshot } = fleet
    // Only a is known, and fast.
    await warmUp(gateway)
    for (const each of nodes) each.delayMs = ms(30_000)
    const answer = await ask(gateway)
    assert.deepEqual([answer.status, answer.attempts], [200, 2])
    assert.notEqual(answer.node, 'a')
    assert.equal(snapshot.config.routing.attempts, 3, 'a third attempt was left')
  })
})

suite('a request that waits in silence', () => {
  for (const stream of [true, false]) {
    const kind = stream ? 'streamed' : 'whole'

    test(`fails over from a node that accepts no new connection (304, ${kind})`, async () => {
      await using fleet = await arrange()
      const { gateway, nodes } = fleet
      const [a] = nodes
      a.isMute = true
      const answer = ask(gateway, { stream })
      await eventually(() => a.requests === 1, 'the node has it')
      a.node.refuse()
      const { node, attempts } = await answer
      assert.deepEqual([node, attempts], ['b', 2])
      assert.deepEqual(await results(gateway, 'a'), { 'node-down': 1 })
      assert.equal(gateway.upstreams.breakerState('a'), 'open', 'no other request has to find out')
    })

    test(`fails over with the others when the breaker of its node opens (304, ${kind})`, async () => {
      await using fleet = await arrange()
      const { gateway, nodes, snapshot } = fleet
      const [a] = nodes
      a.isMute = true
      const waiting = [1, 2, 3].map(() => ask(gateway, { stream }))
      await eventually(() => a.requests === 3, 'the node has them')
      const view = snapshot.nodes.get('a')
      assert(view)
      for (let n = 0; n < 5; n++) gateway.upstreams.of(view).breaker.begin().settle('bad')
      for (const { node } of await Promise.all(waiting)) assert.equal(node, 'b')
      assert.deepEqual(await results(gateway, 'a'), { ejected: 3 })
    })
  }

  test('without another node waits until one is available (304)', async () => {
    await using fleet = await arrange()
    const { gateway, nodes, snapshot } = fleet
    const [a] = nodes
    const alone = aSnapshot({
      nodes: [{ name: 'a', url: a.node.url, loaded: ['m:latest'] }],
      config: { timeouts: { connect: '300ms' } },
    })
    gateway.current.swap(alone)
    a.isMute = true
    const answer = ask(gateway, { stream: false })
    await eventually(() => a.requests === 1, 'the node has it')
    a.node.refuse()
    await eventually(() => gateway.upstreams.breakerState('a') === 'open', 'the node is lost')
    gateway.current.swap(snapshot)
    assert.deepEqual(await answer.then(({ node, attempts }) => [node, attempts]), ['b', 2])
  })

  test('is sent again to its only node after an outage (304)', async () => {
    await using fleet = await arrange({ names: ['a'] })
    const { gateway, nodes } = fleet
    const [a] = nodes
    a.isMute = true
    const answer = ask(gateway, { stream: false })
    await eventually(() => a.requests === 1, 'the node has it')
    a.node.refuse()
    await eventually(() => gateway.upstreams.breakerState('a') === 'open', 'the node is lost')
    a.isMute = false
    await a.node.listen()
    assert.deepEqual(await answer.then(({ status, node, attempts }) => [status, node, attempts]), [
      200,
      'a',
      2,
    ])
    assert.deepEqual(await results(gateway, 'a'), { 'connection-lost': 1, done: 1 })
  })

  test('is served as soon as any node is reachable after an outage of all (304)', async () => {
    await using fleet = await arrange()
    const { gateway, nodes } = fleet
    const [a, b] = nodes
    a.isMute = true
    const answer = ask(gateway, { stream: false })
    await eventually(() => a.requests === 1, 'a node has it')
    for (const { node } of nodes) node.refuse()
    const isLost = (node: string) => gateway.upstreams.breakerState(node) === 'open'
    await eventually(() => isLost('a') && isLost('b'), 'both are lost')
    await b.node.listen()
    assert.deepEqual(await answer.then(({ status, node }) => [status, node]), [200, 'b'])
  })

  test('stays with its node while new connections come up (304)', async () => {
    await using fleet = await arrange()
    const [a] = fleet.nodes
    a.delayMs = ms(20_000)
    const answer = await ask(fleet.gateway, { stream: false })
    assert.deepEqual([answer.node, answer.attempts], ['a', 1])
  })
})

suite('a node that is frozen: it takes connections and answers nothing', () => {
  const frozen =
    'node is frozen: it accepts connections and answers nothing; check whether its machine or Ollama there hangs'

  for (const stream of [true, false])
    for (const loaded of [['m:latest'], []]) {
      const kind = `${stream ? 'streamed' : 'whole'}, ${loaded.length > 0 ? 'in memory' : 'on disk'}`

      test(`loses the first request for a model long before a minute: ${kind} (305)`, async () => {
        await using fleet = await arrange({ loaded })
        const { gateway, nodes } = fleet
        nodes[0].isFrozen = true
        const since = performance.now()
        const answer = await ask(gateway, { stream })
        assert.deepEqual([answer.status, answer.node], [200, 'b'])
        assert(performance.now() - since < ms(30_000), `${(performance.now() - since) / scale} ms`)
        if (loaded.length === 0) return // a load that takes too long is overtaken by another
        const before = nodes[0].requests
        for (const { node, attempts } of await Promise.all([1, 2, 3].map(() => ask(gateway, { stream }))))
          assert.deepEqual([node, attempts], ['b', 1])
        assert.equal(nodes[0].requests, before)
        assert(gateway.lines.some(({ level, message }) => level === 'warn' && message === frozen))
      })
    }

  test('is detected by callers that leave after 2 s (305)', async () => {
    await using fleet = await arrange()
    const { gateway, nodes } = fleet
    nodes[0].isFrozen = true
    const body = JSON.stringify({ model: 'm', messages: [] })
    const asks = async () => {
      const signal = AbortSignal.timeout(ms(2000))
      const answer = await fetch(`${gateway.url}/api/chat`, { method: 'POST', body, signal }).catch(
        () => null,
      )
      return answer?.headers.get('x-llamero-node')
    }
    let count = 0
    for (; (await asks()) !== 'b'; count++) assert(count < 5, 'asked it again and again')
    assert(count > 1, 'it was asked')
  })

  test('gets requests again as soon as it answers (305)', async () => {
    await using fleet = await arrange()
    const { gateway, nodes } = fleet
    nodes[0].isFrozen = true
    assert.equal((await ask(gateway)).node, 'b')
    nodes[0].isFrozen = false
    await eventually(
      () => gateway.lines.some(({ message }) => message === 'node is no longer frozen: it answers again'),
      'it is seen to answer',
    )
    assert.equal((await ask(gateway)).node, 'a')
  })

  for (const loaded of [['m:latest'], []])
    test(`gets the request when no other node has the model, and responds late: ${loaded.length} in memory (305)`, async () => {
      await using fleet = await arrange({ names: ['a'], loaded })
      const { gateway, nodes } = fleet
      nodes[0].isFrozen = true
      const first = ask(gateway)
      await eventually(() => gateway.lines.some(({ message }) => message === frozen), 'it is told')
      const second = ask(gateway)
      await sleep(ms(3000))
      nodes[0].isFrozen = false
      for (const { status, node } of await Promise.all([first, second]))
        assert.deepEqual([status, node], [200, 'a'])
    })

  for (const stream of [true, false])
    test(`does not lengthen the expected time by delayed responses: ${stream ? 'streamed' : 'whole'} (305)`, async () => {
      await using fleet = await arrange({ names: ['a'] })
      const { gateway, nodes } = fleet
      await warmUp(gateway, { stream })
      const timed = stream ? 'first-token' : 'whole'
      const expected = () =>
        gateway.upstreams.expected.of({ node: 'a', model: 'm:latest', timed, bodyBytes: 70 }, true, 0).ms
      const before = expected()
      nodes[0].isFrozen = true
      const answers = Promise.all([1, 2, 3].map(() => ask(gateway, { stream })))
      await sleep(ms(8000))
      nodes[0].isFrozen = false
      for (const { status } of await answers) assert.equal(status, 200)
      assert.equal(expected(), before)
    })

  test('loses waiting requests once another node has the model (305)', async () => {
    await using fleet = await arrange()
    const { gateway, nodes, snapshot } = fleet
    const alone = { name: 'a', url: nodes[0].node.url, loaded: ['m:latest'], slots: 8 }
    gateway.current.swap(aSnapshot({ nodes: [alone], config: { timeouts: { connect: '300ms' } } }))
    nodes[0].isFrozen = true
    const answer = ask(gateway, { stream: false })
    await eventually(() => gateway.lines.some(({ message }) => message === frozen), 'it is told')
    gateway.current.swap(snapshot)
    assert.equal((await answer).node, 'b')
  })

  for (const stream of [true, false])
    for (const loaded of [['m:latest'], []]) {
      const kind = `${stream ? 'streamed' : 'whole'}, ${loaded.length > 0 ? 'in memory' : 'on disk'}`

      test(`is left for one that answers, not for another frozen one: ${kind} (305)`, async () => {
        await using fleet = await arrange({ names: ['a', 'b', 'c'], loaded })
        const { gateway, nodes } = fleet
        for (const each of nodes.slice(0, 2)) each.isFrozen = true
        const since = performance.now()
        const answers = await Promise.all([1, 2, 3, 4].map(() => ask(gateway, { stream })))
        for (const { status, node } of answers) assert.deepEqual([status, node], [200, 'c'])
        assert(performance.now() - since < ms(11_000), `${(performance.now() - since) / scale} ms`)
      })

      test(`keeps its requests while all are frozen: ${kind} (305)`, async () => {
        await using fleet = await arrange({ names: ['a', 'b', 'c'], loaded })
        const { gateway, nodes } = fleet
        for (const each of nodes) each.isFrozen = true
        const waiting = [1, 2, 3, 4].map(() => ask(gateway, { stream }))
        await sleep(ms(30_000))
        for (const each of nodes) each.isFrozen = false
        const since = performance.now()
        for (const { status, text } of await Promise.all(waiting)) assert.equal(status, 200, text)
        assert(performance.now() - since < ms(8000), `${(performance.now() - since) / scale} ms`)
      })
    }

  for (const stream of [true, false])
    test(`keeps its requests while all are frozen, also if they left it for being slow: ${stream ? 'streamed' : 'whole'} (305)`, async () => {
      await using fleet = await arrange({ names: ['a', 'b', 'c'], loadedOn: ['a'] })
      const { gateway, nodes } = fleet
      await warmUp(gateway, { stream })
      for (const each of nodes) each.isFrozen = true
      const waiting = [1, 2, 3, 4].map(() => ask(gateway, { stream }))
      await sleep(ms(30_000))
      for (const each of nodes) each.isFrozen = false
      for (const { status, text } of await Promise.all(waiting)) assert.equal(status, 200, text)
    })

  for (const stream of [true, false])
    test(`gets a request again whose connection did not survive: ${stream ? 'streamed' : 'whole'} (304)`, async () => {
      await using fleet = await arrange({ names: ['a'] })
      const { gateway, nodes } = fleet
      const [a] = nodes
      Object.assign(a, { isFrozen: true, isMute: true })
      const waiting = ask(gateway, { stream })
      await eventually(() => gateway.lines.some(({ message }) => message === frozen), 'it is told')
      Object.assign(a, { isFrozen: false, isMute: false })
      const since = performance.now()
      const { status, attempts } = await waiting
      assert.deepEqual([status, attempts], [200, 2])
      assert(performance.now() - since < ms(10_000), `${(performance.now() - since) / scale} ms`)
    })

  test('sends a request again once only, however often it freezes (304)', async () => {
    await using fleet = await arrange({ names: ['a'] })
    const { gateway, nodes } = fleet
    const [a] = nodes
    // Its status routes take longer than a node may be silent, and its answers longer than a connection is given.
    Object.assign(a, { statusMs: ms(8000), delayMs: ms(40_000) })
    const { status, attempts } = await ask(gateway, { stream: false })
    assert.equal(status, 200)
    assert(attempts <= 2, `${attempts} attempts`)
  })

  test('differs from a busy one with status routes of 1.5 s and responses of 14 s (302)', async () => {
    await using fleet = await arrange()
    const { gateway, nodes } = fleet
    for (const each of nodes) Object.assign(each, { statusMs: ms(1500), delayMs: ms(14_000) })
    const answer = await ask(gateway)
    assert.deepEqual([answer.status, answer.node, answer.attempts], [200, 'a', 1])
    assert(!gateway.lines.some(({ level }) => level === 'warn'))
  })

  for (const isFrozen of [true, false])
    test(`${isFrozen ? 'ends a stream' : 'unlike one that is busy, which keeps a stream'} that stopped in the middle (305)`, async () => {
      await using node = await startRawNode((socket, bytes) => {
        if (!isFrozen && !bytes.startsWith('POST')) socket.write(rawAnswer('{"version":"0.33.0"}'))
        if (!bytes.startsWith('POST')) return
        const line = '{"message":{"content":"hi"},"done":false}\n'
        socket.write(
          `HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n`,
        )
        socket.write(`${line.length.toString(16)}\r\n${line}\r\n`)
      })
      const nodes = [{ name: 'a', url: node.url, loaded: ['m:latest'] }]
      await using gateway = await startGateway(aSnapshot({ nodes }), { clock: new RealClock(scale) })
      const since = performance.now()
      const answer = await fetch(`${gateway.url}/api/chat`, {
        method: 'POST',
        body: '{"model":"m","messages":[]}',
      })
      const text = await answer.text().catch(() => '')
      const tookMs = (performance.now() - since) / scale
      assert(!text.includes('"done":true'))
      assert(text === '' || text.includes('error'), text)
      if (isFrozen) assert(tookMs > 20_000 && tookMs < 40_000, `${tookMs} ms`)
      else assert(tookMs > 59_000, `${tookMs} ms`)
    })
})
