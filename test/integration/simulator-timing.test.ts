import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode, type SimulatedNodeOptions } from '../../lib/simulation/http/simulated-node.ts'

const model = aModel({
  name: 'm',
  sizeMiB: 1000,
  kvMiBPer1kCtx: 1,
  loadMs: 1000,
  promptTps: 1000,
  decodeTps: 100,
  text: 'one two three four five',
})

/** A node whose time stands still, and ways to send requests and to move it on. */
async function aNode(t: TestContext, options: Partial<SimulatedNodeOptions> = {}) {
  const clock = new VirtualClock()
  const node = await SimulatedNode.start({ name: 'timed', models: [model], clock, ...options })
  t.after(() => node.stop())

  const post = async (path: string, body: object): Promise<Response> => {
    const seen = node.requests.length
    const response = fetch(node.url + path, { method: 'POST', body: JSON.stringify({ model: 'm', ...body }) })
    while (node.requests[seen]?.body === undefined) await turn()
    return response
  }
  /** Fires timers until `work` settles; keep-alive timers are left alone. */
  const drive = async <T>(work: Promise<T>): Promise<T> => {
    let settled = false
    const done = () => {
      settled = true
    }
    work.then(done, done)
    while (!settled) {
      const next = clock.nextTimerAt()
      if (next !== null && next - clock.now() < 20_000) await clock.advance(next - clock.now())
      else await turn()
    }
    return work
  }
  const generate = (body: object = {}) => post('/api/generate', { prompt: 'x', stream: false, ...body })
  const load = () => drive(generate({ prompt: '' }).then((response) => response.text()))
  const expiries = async () => {
    const { models } = JSON.parse(await (await fetch(`${node.url}/api/ps`)).text())
    return models.map(
      ({ expires_at }: { expires_at: string }) => Date.parse(expires_at) - clock.date().getTime(),
    )
  }
  return { node, clock, drive, post, generate, load, expiries }
}

function turn() {
  return new Promise((resolve) => setImmediate(resolve))
}

test('ten requests for one slot are served in order, none refused, each waiting longer by one answer', async (t) => {
  const { node, drive, generate, load } = await aNode(t)
  await load()
  const answers: Promise<Record<string, number>>[] = []
  const finished: number[] = []
  for (let i = 0; i < 10; i++) {
    // Waits only for the request's arrival: its answer needs the clock.
    const seen = node.requests.length
    answers.push(
      generate({ prompt: 'x'.repeat(34), options: { x_fake: { outTokens: 5 } }, raw: true }).then(
        async (response) => {
          const body = JSON.parse(await response.text())
          finished.push(i)
          return body
        },
      ),
    )
    while (node.requests.length === seen) await turn()
  }
  const bodies = await drive(Promise.all(answers))
  assert.deepEqual(finished, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  const waitsMs = bodies.map(
    (body) =>
      (body['total_duration']! -
        (body['load_duration'] ?? 0) -
        body['prompt_eval_duration']! -
        body['eval_duration']!) /
      1e6,
  )
  // The first reads 9 tokens of prompt, the others find 8 of them cached; five tokens take 50 ms.
  assert.deepEqual(
    waitsMs.map(Math.round),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((i) => (i === 0 ? 0 : 59 + 51 * (i - 1))),
  )
  assert.deepEqual(node.stats().models['m:latest'], { inFlight: 0, peak: 10 })
})

test('the final line tells load, prompt and decode apart in nanoseconds', async (t) => {
  const { drive, generate } = await aNode(t)
  const response = await drive(generate({ prompt: 'x'.repeat(400), raw: true }))
  const body = JSON.parse(await response.text())
  assert.deepEqual(
    [
      body.total_duration,
      body.load_duration,
      body.prompt_eval_count,
      body.prompt_eval_duration,
      body.eval_count,
      body.eval_duration,
    ],
    [1_150_000_000, 1_000_000_000, 100, 100_000_000, 5, 50_000_000],
  )
})

test('headers leave with the first token, not before', async (t) => {
  const { clock, post, load } = await aNode(t)
  await load()
  let headersAt: number | null = null
  const arrivedAt = clock.now()
  const response = post('/api/generate', { prompt: 'x'.repeat(4000), raw: true }).then((answer) => {
    headersAt = clock.now()
    return answer
  })
  await clock.advance(1009)
  for (let i = 0; i < 20; i++) await turn()
  assert.equal(headersAt, null)
  await clock.advance(1)
  const reader = (await response).body!.getReader()
  assert.equal(headersAt, arrivedAt + 1010)
  assert.equal(
    new TextDecoder()
      .decode((await reader.read()).value)
      .trim()
      .split('\n').length,
    1,
  )
  await reader.cancel()
})

test('ps shows the end of the keep-alive as each request leaves it', async (t) => {
  const { clock, drive, generate, expiries } = await aNode(t, { keepAliveMs: 60_000 })
  const step = async (keep_alive?: number | string) => {
    await (await drive(generate({ keep_alive }))).text()
    return expiries()
  }
  assert.deepEqual(await step(), [60_000], 'the default')
  assert.deepEqual(await step('2m'), [120_000])
  assert.deepEqual(await step(), [120_000], 'it sticks')
  const [forever] = await step(-1)
  assert.equal(new Date(clock.date().getTime() + forever!).getUTCFullYear(), 2318)
  assert.deepEqual(await step(0), [])
})

test('an unload is answered at once and takes effect when the model is idle', async (t) => {
  const { node, clock, drive, generate, expiries } = await aNode(t)
  const running = generate({ raw: true })
  while (node.stats().tokens === 0) await clock.advance(10)
  const unload = JSON.parse(await (await generate({ prompt: '', keep_alive: 0 })).text())
  assert.equal(unload.done_reason, 'unload')
  assert.equal((await expiries()).length, 1)
  await (await drive(running)).text()
  assert.deepEqual(await expiries(), [])
})

test('the same requests on the same seed give the same events, twice', async (t) => {
  const run = async () => {
    const { node, drive, generate, post } = await aNode(t, { seed: 7 })
    const bodies: string[] = []
    bodies.push(await drive(generate().then((response) => response.text())))
    bodies.push(await drive(generate({ options: { num_ctx: 2048 } }).then((response) => response.text())))
    const messages = [{ role: 'user', content: 'hi' }]
    bodies.push(
      await drive(post('/v1/chat/completions', { messages, stream: true }).then((one) => one.text())),
    )
    return { bodies, log: node.log.filter(({ type }) => type !== 'conn') }
  }
  const first = await run()
  assert.ok(first.log.length > 10)
  assert.deepEqual(await run(), first)
})

test('a scaled real clock runs the model faster than it says', async (t) => {
  const node = await SimulatedNode.start({ name: 'scaled', models: [model], clock: new RealClock(0.01) })
  t.after(() => node.stop())
  const startedAt = performance.now()
  const body = JSON.stringify({ model: 'm', prompt: 'x', stream: false })
  const answer = JSON.parse(await (await fetch(`${node.url}/api/generate`, { method: 'POST', body })).text())
  // The model says a second and more; only that side is exact, the machine may be slow.
  assert.ok(answer.load_duration >= 1e9)
  assert.ok(performance.now() - startedAt < answer.total_duration / 1e6)
})

test('the ledger keeps the request as it came in, and when its client left', async (t) => {
  const { node, clock, load } = await aNode(t)
  await load()
  const leaving = new AbortController()
  const text = '{"model":"m", "prompt":"x"}'
  const headers = { 'X-Odd-Case': 'kept' }
  const left = fetch(`${node.url}/api/generate?a=b`, {
    method: 'POST',
    body: text,
    headers,
    signal: leaving.signal,
  })
  left.catch(() => {})
  while (node.requests[1]?.body === undefined) await turn()
  leaving.abort()
  while (node.stats().aborted === 0) await turn()
  const [, record] = node.requests
  assert.deepEqual(
    [record?.method, record?.path, record?.body],
    ['POST', '/api/generate', { model: 'm', prompt: 'x' }],
  )
  assert.equal(record?.rawBody.toString(), text)
  assert.equal(record?.rawHeaders[record.rawHeaders.indexOf('X-Odd-Case') + 1], 'kept')
  assert.deepEqual([record?.abortedAt, record?.endedAt], [clock.now(), null])
  assert.equal(node.stats().models['m:latest']?.inFlight, 0)
})
