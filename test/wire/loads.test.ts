import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, rawAnswer, startRawNode } from '../support/wire.ts'

const answered = rawAnswer('{"message":{"content":"hi"},"done":true}')
const loaded = rawAnswer('{"done":true,"done_reason":"load"}')
const isLoad = (bytes: string) => bytes.includes('x-request-id: llamero-load')
const isWhole = (bytes: string) => bytes.endsWith('}')

/** A node that has the model on disk only; the test finishes its load. */
async function startColdNode() {
  const loading: Socket[] = []
  const requests: string[] = []
  const node = await startRawNode((socket, bytes) => {
    if (!isWhole(bytes)) return
    requests.push(bytes)
    if (isLoad(bytes)) loading.push(socket)
    else socket.write(answered)
  })
  return { ...node, loading, requests, finish: (answer = loaded) => loading.at(-1)?.write(answer) }
}

async function fleet(config: Record<string, unknown> = {}) {
  const cold = await startColdNode()
  const other = await startRawNode((socket) => socket.write(answered))
  const nodes = [{ name: 'cold', url: cold.url, slots: 8 }]
  const gateway = await startGateway(aSnapshot({ nodes, config }))
  const ask = (fields: object = {}, signal?: AbortSignal) =>
    fetch(`${gateway.url}/api/chat`, {
      method: 'POST',
      body: JSON.stringify({ model: 'm', ...fields }),
      ...(signal && { signal }),
    })
  return {
    cold,
    other,
    gateway,
    ask,
    async [Symbol.asyncDispose]() {
      for (const each of [gateway, cold, other]) await each[Symbol.asyncDispose]()
    },
  }
}

suite('a model that must be loaded first', () => {
  test('is loaded once for all waiting requests, and then asked', async () => {
    await using at = await fleet()
    const answers = [at.ask(), at.ask(), at.ask()]
    await eventually(() => at.gateway.scheduler.summary().queued === 3, 'three wait')
    await eventually(() => at.cold.loading.length === 1, 'one load')
    assert.equal(at.cold.requests.length, 1)
    at.cold.finish()
    for (const answer of await Promise.all(answers)) {
      assert.equal(answer.status, 200)
      assert.equal(answer.headers.get('x-llamero-reason'), 'cold-load')
      await answer.text()
    }
    assert.equal(at.cold.loading.length, 1)
    assert.equal((await at.ask()).status, 200)
    assert.equal(at.cold.loading.length, 1, 'what was just loaded is not loaded again')
  })

  test('goes on loading when the first caller leaves, and serves the next', async () => {
    await using at = await fleet()
    const caller = new AbortController()
    const left = at.ask({}, caller.signal).catch(() => 'left')
    await eventually(() => at.cold.loading.length === 1, 'the load has begun')
    caller.abort()
    assert.equal(await left, 'left')
    await eventually(() => at.gateway.scheduler.summary().queued === 0, 'it waits no more')
    assert.equal(at.cold.closedAt[0], undefined, 'the load was not cut')
    const next = at.ask()
    await eventually(() => at.gateway.scheduler.summary().queued === 1, 'the next one waits')
    at.cold.finish()
    assert.equal((await next).status, 200)
    assert.equal(at.cold.loading.length, 1)
  })

  test('is loaded for its request: with its context, without its prompt, for an hour', async () => {
    await using at = await fleet()
    const answer = at.ask({ options: { num_ctx: 8192, temperature: 1 }, messages: [{ content: 'secret' }] })
    await eventually(() => at.cold.loading.length === 1, 'the load has begun')
    const [load] = at.cold.requests
    assert.match(load ?? '', /^POST \/api\/generate HTTP/)
    assert.match(
      load ?? '',
      /\{"model":"m:latest","keep_alive":"1h","options":\{"num_ctx":8192\},"stream":false\}$/,
    )
    at.cold.finish()
    await (await answer).text()
  })

  test('stays as long as the node decides when the configuration leaves it to the nodes (369)', async () => {
    await using at = await fleet({ routing: { keep_alive: 'own' } })
    const answer = at.ask()
    await eventually(() => at.cold.loading.length === 1, 'the load has begun')
    assert.match(at.cold.requests[0] ?? '', /\{"model":"m:latest","stream":false\}$/)
    at.cold.finish()
    await (await answer).text()
  })

  test('with a failed load counts once against the node, for all waiting requests', async () => {
    await using at = await fleet()
    const answers = Array.from({ length: 8 }, () => at.ask())
    await eventually(() => at.gateway.scheduler.summary().queued === 8, 'all wait')
    await eventually(() => at.cold.loading.length === 1, 'the load has begun')
    at.cold.finish(rawAnswer('{"error":"out of memory"}', { status: '500 Internal Server Error' }))
    for (const answer of await Promise.all(answers)) assert.equal(answer.status, 500)
    assert.equal(at.gateway.upstreams.breakerState('cold'), 'closed')
    const warnings = at.gateway.lines.filter(({ level }) => level === 'warn')
    assert.deepEqual(
      warnings.map(({ message, fields }) => [message, fields]),
      [['a model load failed', { node: 'cold', model: 'm:latest', seconds: 0, reason: 'out of memory' }]],
    )
  })

  test('with a failed load is answered by another node, or with the error of the node', async () => {
    const failure = rawAnswer('{"error":"llama-server process has terminated: exit status 1"}', {
      status: '500 Internal Server Error',
    })
    await using at = await fleet()
    const alone = at.ask()
    await eventually(() => at.cold.loading.length === 1, 'the load has begun')
    at.cold.finish(failure)
    assert.equal((await alone).status, 500)
    assert.match(((await (await alone).json()) as { error: string }).error, /has terminated/)

    await using pair = await fleet()
    const nodes = [
      { name: 'cold', url: pair.cold.url, weight: 2 },
      { name: 'other', url: pair.other.url },
    ]
    pair.gateway.current.swap(aSnapshot({ nodes }))
    const healed = pair.ask()
    await eventually(() => pair.cold.loading.length === 1, 'the load has begun')
    pair.cold.finish(failure)
    assert.equal((await healed).status, 200)
    assert.equal((await healed).headers.get('x-llamero-node'), 'other')
  })
})

suite('a node without room for the model', () => {
  test('unloads an idle model, and loads when that has left the memory', async () => {
    const heard: string[] = []
    let looks = 0
    await using node = await startRawNode((socket, bytes) => {
      const path = /^\S+ (\S+)/.exec(bytes)?.[1] ?? ''
      heard.push(
        `${path} ${/"model":"([^"]*)"/.exec(bytes)?.[1] ?? ''} ${/"keep_alive":0/.exec(bytes)?.[0] ?? ''}`.trim(),
      )
      const models = ++looks < 4 ? [{ name: 'n:latest' }] : []
      if (path === '/api/ps') socket.write(rawAnswer(JSON.stringify({ models })))
      else socket.write(path === '/api/chat' ? answered : loaded)
    })
    const models = ['m:latest', 'n:latest']
    const sketch = { name: 'small', url: node.url, models, loaded: ['n:latest'], max_loaded: 1 }
    const clock = new RealClock(0.1)
    await using gateway = await startGateway(aSnapshot({ nodes: [sketch] }), { clock })
    const answer = await fetch(`${gateway.url}/api/chat`, { method: 'POST', body: '{"model":"m"}' })
    assert.equal(answer.status, 200)
    await answer.text()
    assert.deepEqual(heard, [
      '/api/generate n:latest "keep_alive":0',
      '/api/ps',
      '/api/ps',
      '/api/ps',
      '/api/generate m:latest',
      '/api/chat m',
    ])
  })

  test('that keeps the other model for 10 s is not asked to load, and serves the other again', async () => {
    const heard: string[] = []
    await using node = await startRawNode((socket, bytes) => {
      // The check of a node that says nothing for 0.5 s, which are 5 ms here.
      if (bytes.startsWith('GET /api/version')) return void socket.end(answered)
      heard.push(`${/^\S+ (\S+)/.exec(bytes)?.[1]} ${/"model":"([^"]*)"/.exec(bytes)?.[1] ?? ''}`)
      if (bytes.startsWith('GET /api/ps')) socket.write(rawAnswer('{"models":[{"name":"n:latest"}]}'))
      else socket.write(isLoad(bytes) ? loaded : answered)
    })
    const models = ['m:latest', 'n:latest']
    const sketch = { name: 'small', url: node.url, models, loaded: ['n:latest'], max_loaded: 1 }
    await using gateway = await startGateway(aSnapshot({ nodes: [sketch] }), { clock: new RealClock(0.01) })
    const ask = (model: string, signal: AbortSignal) =>
      fetch(`${gateway.url}/api/chat`, { method: 'POST', body: JSON.stringify({ model }), signal })
    const caller = new AbortController()
    const waits = ask('m', caller.signal).catch(() => 'left')
    await eventually(() => heard.length > 3, 'it is asked what it has')
    assert.equal((await ask('n', AbortSignal.timeout(5000))).status, 200)
    assert.deepEqual([...new Set(heard)], ['/api/generate n:latest', '/api/ps ', '/api/chat n'])
    assert.equal(gateway.scheduler.summary().queued, 1, 'who wanted the other waits')
    caller.abort()
    assert.equal(await waits, 'left')
  })

  test('keeps its other models: the load begins when the freed memory is available', async () => {
    const clock = new RealClock(0.1)
    const [sizeMiB, totalMiB] = [4000, 10_240]
    const models = ['a', 'b', 'c'].map((name) =>
      aModel({ name, sizeMiB, kvMiBPer1kCtx: 0, loadMs: 10, decodeTps: 0, promptTps: 0 }),
    )
    const gpus = [{ id: 'gpu0', totalMiB, discrete: true }]
    await using cleanup = new AsyncDisposableStack()
    const node = await SimulatedNode.start({ name: 'gpu', models, gpus, clock })
    cleanup.defer(() => node.stop())
    const mebibyte = 2 ** 20
    const sketch = {
      name: 'gpu',
      url: node.url,
      models: ['a:latest', 'b:latest', 'c:latest'],
      bytes: sizeMiB * mebibyte,
      memory: totalMiB * mebibyte,
    }
    const gateway = await startGateway(aSnapshot({ nodes: [sketch] }), { clock })
    cleanup.defer(() => gateway[Symbol.asyncDispose]())
    for (const model of ['a', 'b', 'c']) {
      const answer = await fetch(`${gateway.url}/api/chat`, {
        method: 'POST',
        body: JSON.stringify({ model }),
      })
      assert.equal(answer.status, 200)
      await answer.text()
    }
    assert.equal(node.stats().loads, 3)
    assert.equal(node.stats().evictions, 0)
  })
})

suite('a node that has the model in memory and says nothing', () => {
  // A hundred times faster: the 10 s that a silent node has at least are 0.1 s.
  const clock = new RealClock(0.01)
  const stream = JSON.stringify({ model: 'm', stream: true })

  /** Its chats get no response; its status routes answer, so it does not count as frozen. */
  async function silent(nodes: readonly string[]) {
    const mute = await startRawNode((socket, chunk) => {
      if (chunk.startsWith('GET /api/version')) socket.end(rawAnswer('{"version":"0.9.6"}'))
    })
    const good = await startRawNode((socket) => socket.write(answered))
    const all = [
      { name: 'mute', url: mute.url, loaded: ['m:latest'], weight: 2 },
      { name: 'good', url: good.url, loaded: ['m:latest'] },
    ]
    const sketch = all.filter(({ name }) => nodes.includes(name))
    const gateway = await startGateway(aSnapshot({ nodes: sketch }), { clock })
    const startedAt = performance.now()
    const answer = await fetch(`${gateway.url}/api/chat`, { method: 'POST', body: stream })
    await answer.text()
    const tookMs = (performance.now() - startedAt) * 100
    for (const each of [gateway, mute, good]) await each[Symbol.asyncDispose]()
    return { answer, tookMs }
  }

  test('loses the request to another after 10 s', async () => {
    const { answer, tookMs } = await silent(['mute', 'good'])
    assert.equal(answer.headers.get('x-llamero-node'), 'good')
    assert(tookMs >= 10_000 && tookMs < 200_000, `${tookMs} ms`)
  })

  test('keeps it for all of 300 s when no other node could answer (138)', async () => {
    const { answer, tookMs } = await silent(['mute'])
    assert.equal(answer.status, 504)
    assert(tookMs >= 300_000, `${tookMs} ms`)
  })
})
