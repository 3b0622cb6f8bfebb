import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { routeSchema } from '../../lib/fleet/config.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { eventually, rawAnswer, startRawNode } from '../support/wire.ts'

const tenants = Array.from({ length: 12 }, (_, nth) => `tenant-${nth}`)
const keys = new Map(
  tenants.map((tenant) => [tenant, apiKeySchema.parse({ hash: hashToken(`llm_${tenant}`), tenant })]),
)
const loaded = { models: ['m:latest'], loaded: ['m:latest'], slots: 1 }

/** One slot that is taken, of a node that answers when it is told to. Of 40 GB an answer is expected to take half a minute. */
async function startFull({ bytes = 40e9, ...config }: { bytes?: number; queue?: object } = {}) {
  const working: Socket[] = []
  const node = await startRawNode((socket, bytes) => {
    if (bytes.endsWith('}')) working.push(socket)
  })
  const gateway = await startGateway(
    aSnapshot({ nodes: [{ name: 'a', url: node.url, ...loaded, bytes }], keys, config }),
  )
  const ask = (tenant: string, path = '/api/chat', signal?: AbortSignal) =>
    fetch(gateway.url + path, {
      method: 'POST',
      headers: { authorization: `Bearer llm_${tenant}` },
      body: '{"model":"m","messages":[],"stream":false}',
      ...(signal && { signal }),
    })
  const waiting: Promise<unknown>[] = [ask('tenant-0')]
  await eventually(() => working.length === 1, 'the node works')
  return {
    gateway,
    ask,
    /** Lets one more wait. */
    async queue(tenant: string) {
      const before = gateway.scheduler.summary().queued
      waiting.push(ask(tenant))
      await eventually(() => gateway.scheduler.summary().queued === before + 1, `${tenant} waits`)
    },
    outcomes: () => gateway.scheduler.decisions().map(({ tenant, outcome }) => `${tenant} ${outcome}`),
    metrics: () => gateway.metrics.registry.metrics(),
    async [Symbol.asyncDispose]() {
      const answer = rawAnswer('{"done":true}')
      const served = waiting.length
      for (let nth = 0; nth < served; nth++) {
        await eventually(() => working.length > 0, 'the next is with the node')
        working.shift()?.write(answer)
      }
      await Promise.all(waiting)
      await gateway[Symbol.asyncDispose]()
      await node[Symbol.asyncDispose]()
    },
  }
}

suite('a request that would wait', () => {
  test('for longer than its class may is refused within milliseconds, and told for how long to stay away', async () => {
    await using full = await startFull()
    await full.queue('tenant-1')
    await full.queue('tenant-2')
    for (const [nth, path] of ['/api/chat', '/v1/chat/completions', '/v1/messages'].entries()) {
      const answer = await full.ask(`tenant-${nth + 3}`, path)
      assert.equal(answer.status, 503)
      const seconds = Number(answer.headers.get('retry-after'))
      // One runs and two wait, half a minute each.
      assert.ok(seconds > 60 && seconds < 120, `${seconds}`)
      assert.ok((await answer.text()).includes(`wait for them; try again in ${seconds} s`))
      if (path === '/api/chat') continue
      assert.equal(Math.ceil(Number(answer.headers.get('retry-after-ms')) / 1000), seconds)
      assert.equal(answer.headers.get('x-should-retry'), 'true')
    }
    assert.deepEqual(
      full.outcomes().slice(0, 3),
      [5, 4, 3].map((nth) => `tenant-${nth} no-capacity`),
    )
    const metrics = await full.metrics()
    assert.match(metrics, /^llamero_queue_rejected_total\{class="default",reason="no_capacity"\} 3$/m)
    const tookMs: number[] = []
    for (let nth = 0; nth < 20; nth++) {
      const startedAt = performance.now()
      await (await full.ask('tenant-6')).arrayBuffer()
      tookMs.push(performance.now() - startedAt)
    }
    assert.ok(Math.min(...tookMs) < 10, `${tookMs} ms`)
  })

  test('beside as much work of its tenant as that may have waiting is refused with 429, and another tenant waits', async () => {
    await using full = await startFull()
    for (let nth = 0; nth < 2; nth++) await full.queue('tenant-1')
    const answer = await full.ask('tenant-1')
    assert.equal(answer.status, 429)
    assert.match(await answer.text(), /tenant .tenant-1./)
    assert.ok(Number(answer.headers.get('retry-after')) > 60)
    assert.equal(full.outcomes()[0], 'tenant-1 tenant-full')
    assert.match(await full.metrics(), /reason="tenant_full"\} 1$/m)
    await full.queue('tenant-2')
    assert.equal(
      full.gateway.scheduler.queued()[1]?.request.tenant,
      'tenant-2',
      'and goes before the second of them',
    )
  })

  test('leaves the queue at once when its caller does, and so it is written down', async () => {
    await using full = await startFull()
    const caller = new AbortController()
    const left = full.ask('tenant-1', '/api/chat', caller.signal).catch(() => 'left')
    await eventually(() => full.gateway.scheduler.summary().queued === 1, 'it waits')
    caller.abort()
    assert.equal(await left, 'left')
    await eventually(() => full.gateway.scheduler.summary().queued === 0, 'it waits no more')
    assert.deepEqual(full.outcomes(), ['tenant-1 left', 'tenant-0 running'])
    assert.match(await full.metrics(), /queue_wait_seconds_count\{class="default",outcome="left"\} 1$/m)
  })

  test('is given up after as long as its class may wait, and told when a slot is expected', async () => {
    await using full = await startFull({ bytes: 10e9, queue: { max_wait: '100ms' } })
    const answer = await full.ask('tenant-1', '/v1/messages')
    assert.equal(answer.status, 503)
    assert.match(await answer.text(), /no slot became free for model 'm:latest' within 0\.1 s/)
    const ms = Number(answer.headers.get('retry-after-ms'))
    assert.ok(ms > 5000 && ms < 10_000, `the one that runs has just begun: ${ms}`)
    assert.equal(full.outcomes()[0], 'tenant-1 waited-too-long')
    assert.match(await full.metrics(), /reason="deadline"\} 1$/m)
  })
})

suite('300 requests that wait for a full node', () => {
  test('keep none for another model from an idle node (381)', async () => {
    await using full = await startRawNode(() => {})
    const idle = await SimulatedNode.start({
      name: 'idle',
      models: [aModel({ name: 'n', loadMs: 1, promptTps: 0, decodeTps: 0 })],
    })
    await using _idle = { [Symbol.asyncDispose]: () => idle.stop() }
    const nodes = [
      { name: 'full', url: full.url, ...loaded, bytes: 1e8 },
      { name: 'idle', url: idle.url, models: ['n:latest'], loaded: ['n:latest'], bytes: 1e8 },
    ]
    const config = { queue: { max_wait: '1h' } }
    await using gateway = await startGateway(aSnapshot({ nodes, config }))
    const caller = new AbortController()
    const ask = (model: string) =>
      fetch(`${gateway.url}/api/chat`, {
        method: 'POST',
        body: JSON.stringify({ model, messages: [], stream: false }),
        signal: caller.signal,
      })
    const waiting = Array.from({ length: 301 }, () => ask('m').catch(() => 'left'))
    await eventually(() => gateway.scheduler.summary().queued === 300, '300 wait', 10_000)
    const answer = await ask('n')
    assert.equal(answer.status, 200)
    assert.equal(answer.headers.get('x-llamero-node'), 'idle')
    assert.equal(gateway.scheduler.summary().queued, 300, 'they still wait')
    assert.ok(Number(answer.headers.get('x-llamero-queue-ms')) < 1000)
    await answer.text()
    caller.abort()
    await Promise.all(waiting)
  })
})

suite('a load that failed on the only node', () => {
  test("is answered at once with the node's reason until the load is tried again", async () => {
    let loads = 0
    await using node = await startRawNode((socket, bytes) => {
      if (!bytes.endsWith('}')) return
      loads++
      const error = '{"error":"model requires more system memory (40.0 GiB) than is available (8.0 GiB)"}'
      socket.write(rawAnswer(error, { status: '500 Internal Server Error' }))
    })
    await using gateway = await startGateway(aSnapshot({ nodes: [{ name: 'a', url: node.url }] }))
    for (const path of ['/api/chat', '/api/chat', '/v1/chat/completions']) {
      const answer = await fetch(gateway.url + path, { method: 'POST', body: '{"model":"m","messages":[]}' })
      assert.equal(answer.status, 500)
      assert.match(await answer.text(), /more system memory/)
      const seconds = Number(answer.headers.get('retry-after'))
      assert.ok(seconds > 25 && seconds <= 30, `${seconds}`)
    }
    assert.equal(loads, 1)
    assert.deepEqual(
      gateway.scheduler.decisions().map(({ outcome }) => outcome),
      ['load-failed', 'load-failed', 'load-failed'],
    )
  })
})

suite('x-llamero-reason', () => {
  const model = aModel({ name: 'm', loadMs: 50, promptTps: 0, decodeTps: 100, text: 'word '.repeat(40) })
  const names = ['m:latest']
  const conversation = [{ role: 'user', content: 'hello there, how do you do?' }]

  async function fleet(sketches: Parameters<typeof aSnapshot>[0] = {}) {
    const nodes = await Promise.all(
      ['a', 'b'].map((name) => SimulatedNode.start({ name, models: [model], numParallel: 4 })),
    )
    const gateway = await startGateway(
      aSnapshot({
        ...sketches,
        nodes: (sketches.nodes ?? []).map((sketch, nth) => ({
          url: nodes[nth]?.url ?? '',
          models: names,
          ...sketch,
        })),
      }),
    )
    const ask = (body: object = {}) =>
      fetch(`${gateway.url}/api/chat`, {
        method: 'POST',
        body: JSON.stringify({ model: 'm', messages: conversation, ...body }),
      })
    return {
      gateway,
      ask,
      reason: async (answer: Promise<Response>) => (await answer).headers.get('x-llamero-reason'),
      async [Symbol.asyncDispose]() {
        await gateway[Symbol.asyncDispose]()
        await Promise.all(nodes.map((node) => node.stop()))
      },
    }
  }

  test('is cold-load, then warm, then affinity for the next turn of a conversation', async () => {
    await using at = await fleet({ nodes: [{ name: 'a' }] })
    const first = await at.ask()
    assert.equal(first.headers.get('x-llamero-reason'), 'cold-load')
    await first.text()
    const other = await at.ask({ messages: [{ role: 'user', content: 'another one' }] })
    assert.equal(other.headers.get('x-llamero-reason'), 'warm')
    await other.text()
    const next = await at.ask({
      messages: [...conversation, { role: 'assistant', content: 'x' }, ...conversation],
    })
    assert.equal(next.headers.get('x-llamero-reason'), 'affinity')
    await next.text()
  })

  test('is spill where the better node has no slot, and fallback for another model than the one wanted', async () => {
    const routes = new Map([['old', routeSchema.parse({ match: { model: 'gone*' }, fallback: ['m'] })]])
    const bytes = 2e9
    const nodes = [
      { name: 'a', slots: 1, weight: 2, loaded: names, bytes },
      { name: 'b', slots: 1, loaded: names, bytes },
      { name: 'c', url: 'http://127.0.0.1:1', models: ['gone:latest'], health: 'down' as const },
    ]
    await using at = await fleet({ nodes, routes })
    const running = await at.ask()
    const spilt = await at.ask()
    assert.deepEqual(
      [running, spilt].map(
        ({ headers }) => `${headers.get('x-llamero-node')} ${headers.get('x-llamero-reason')}`,
      ),
      ['a warm', 'b spill'],
    )
    await Promise.all([running.text(), spilt.text()])
    const fallen = await at.ask({ model: 'gone' })
    assert.equal(fallen.headers.get('x-llamero-reason'), 'fallback')
    await fallen.text()
  })

  test('of an answer that is not streamed, the log has the first token as its node timed it, not the whole', async () => {
    await using at = await fleet({ nodes: [{ name: 'a', loaded: names }] })
    await (await at.ask()).text() // loads it there, whatever the snapshot says
    const startedAt = performance.now()
    await (await at.ask({ stream: false })).text()
    const wholeS = (performance.now() - startedAt) / 1000
    const [decision] = at.gateway.scheduler.decisions()
    assert.equal(decision?.outcome, 'answered')
    assert.ok(wholeS > 0.3 && (decision?.ttft ?? wholeS) < wholeS / 2, `${decision?.ttft} of ${wholeS} s`)
    const text = await at.gateway.metrics.registry.metrics()
    const errors = text.match(/ttft_prediction_error_seconds_count\{direction="(late|early)"\} (\d+)/g) ?? []
    assert.equal(
      errors.reduce((sum, line) => sum + Number(line.split(' ')[1]), 0),
      2,
    )
  })
})
