import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode, type SimulatedNodeOptions } from '../../lib/simulation/http/simulated-node.ts'

const fast = { loadMs: 0, promptTps: 0, decodeTps: 0 }
const models = [
  aModel({ name: 'm', ...fast, text: 'one two three' }),
  aModel({ name: 'other', ...fast, sizeMiB: 10, text: 'four' }),
]
const chat = { model: 'm', messages: [{ role: 'user', content: 'hi' }] }

async function aNode(t: TestContext, options: Partial<SimulatedNodeOptions> = {}): Promise<SimulatedNode> {
  const node = await SimulatedNode.start({ name: 'faulty', models, ...options })
  t.after(() => node.stop())
  return node
}

interface Seen {
  /** Every byte that came, as text. */
  readonly text: string
  /** How the connection ended. */
  readonly end: 'closed' | 'reset' | 'refused'
}

/** What a raw socket sees of one request, byte by byte, until the node or the patience ends it. */
async function raw(
  node: SimulatedNode,
  path = '/api/chat',
  body: object = chat,
  host = 'localhost',
): Promise<Seen> {
  const socket = connect(node.port, '127.0.0.1')
  const chunks: Buffer[] = []
  let end: Seen['end'] = 'closed'
  socket.on('data', (chunk) => chunks.push(chunk))
  socket.on('error', (error: NodeJS.ErrnoException) => {
    end = error.code === 'ECONNREFUSED' ? 'refused' : 'reset'
  })
  const text = JSON.stringify(body)
  const closed = once(socket, 'close').catch(() => once(socket, 'close'))
  socket.write(
    `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  )
  await closed
  return { text: Buffer.concat(chunks).toString(), end }
}

/** The payloads of the HTTP chunks; null last when the terminating chunk is missing. */
function chunksOf({ text }: Seen): (string | null)[] {
  const body = text.slice(text.indexOf('\r\n\r\n') + 4)
  const parts = body.split('\r\n')
  const payloads = parts.filter((_, i) => i % 2 === 1 && parts[i - 1] !== '0')
  return body.endsWith('0\r\n\r\n') ? payloads : [...payloads, null]
}

function statusOf({ text }: Seen): string {
  return text.split('\r\n', 1)[0] ?? ''
}

test('without a fault: one HTTP chunk for each line, and the terminating one', async (t) => {
  const node = await aNode(t)
  const seen = await raw(node)
  const lines = chunksOf(seen)
  assert.equal(lines.length, 4)
  for (const line of lines) assert.equal(line?.indexOf('\n'), line!.length - 1)
  assert.equal(seen.end, 'closed')
  const kept = await fetch(node.url)
  assert.equal(kept.headers.get('connection'), null, 'Go does not say that it keeps a connection')
  await kept.text()
})

test('refuse closes the port, accept opens the same port again, and loaded models stay', async (t) => {
  const node = await aNode(t)
  await raw(node)
  await node.control.refuse()
  assert.deepEqual(await raw(node), { text: '', end: 'refused' })
  await node.control.accept()
  assert.equal(statusOf(await raw(node)), 'HTTP/1.1 200 OK')
  assert.equal(node.stats().loads, 1)
})

test('an open stream goes on while the node refuses connections', async (t) => {
  const clock = new VirtualClock()
  const node = await aNode(t, { clock, models: [{ ...models[0]!, decodeTps: 10 }] })
  const seen = raw(node)
  while (node.stats().tokens < 1) await clock.advance(10)
  await node.control.refuse()
  await clock.runUntilIdle()
  assert.equal(chunksOf(await seen).length, 4)
})

test('a black hole takes the request and never answers, others are served', async (t) => {
  const node = await aNode(t)
  node.control.blackhole({ match: { path: '/api/chat' } })
  const leaving = new AbortController()
  const swallowed = fetch(`${node.url}/api/chat`, {
    method: 'POST',
    body: JSON.stringify(chat),
    signal: leaving.signal,
  })
  swallowed.catch(() => {})
  while (node.requests[0]?.body === undefined) await new Promise((resolve) => setImmediate(resolve))
  assert.equal((await fetch(`${node.url}/api/tags`)).status, 200)
  assert.equal(await Promise.race([swallowed, 'silence']), 'silence')
  leaving.abort()
  while (node.stats().aborted === 0) await new Promise((resolve) => setImmediate(resolve))
})

test('a reset before the first byte shows nothing, later ones show whole chunks only', async (t) => {
  const node = await aNode(t)
  for (const count of [0, 1, 2]) {
    node.control.resetAfter(count, { times: 1 })
    const seen = await raw(node)
    assert.equal(seen.end, 'reset')
    if (count === 0) assert.equal(seen.text, '')
    else assert.equal(chunksOf(seen).filter((chunk) => chunk !== null && chunk !== '').length, count)
    assert.doesNotMatch(seen.text, /"done":true|\r\n0\r\n/)
  }
  assert.equal(node.stats().aborted, 0, 'the client is not to blame')
})

test('dropped after the headers: the head, and not one byte of a body', async (t) => {
  const node = await aNode(t)
  node.control.dropAfterHeaders()
  for (const path of ['/api/chat', '/api/show']) {
    const { text, end } = await raw(node, path)
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\n$/)
    assert.equal(end, 'reset')
  }
})

test('a truncated answer ends cleanly, without its last line', async (t) => {
  const node = await aNode(t)
  for (const count of [0, 2]) {
    node.control.truncate(count, { times: 1 })
    const seen = await raw(node)
    assert.equal(seen.end, 'closed')
    assert.equal(chunksOf(seen).length, count)
    assert.match(seen.text, /0\r\n\r\n$/)
    assert.doesNotMatch(seen.text, /"done":true/)
  }
})

test('a stall holds the rest back, a slow first byte holds the headers back too', async (t) => {
  const clock = new VirtualClock()
  const node = await aNode(t, { clock })
  const times = async (): Promise<number[]> => {
    const startedAt = clock.now()
    const socket = connect(node.port, '127.0.0.1')
    const seen: number[] = []
    socket.on('data', () => seen.push(clock.now() - startedAt))
    const body = JSON.stringify(chat)
    const head = `POST /api/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`
    socket.write(head + body)
    let open = true
    socket.once('close', () => {
      open = false
    })
    // Time moves only when the node waits, so that a byte on its way is not counted late.
    while (open) {
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
      const next = clock.nextTimerAt()
      if (open && next !== null && next - clock.now() < 60_000) await clock.advance(next - clock.now())
    }
    return [...new Set(seen)]
  }
  assert.deepEqual(await times(), [0])
  node.control.stallAfter(2, 5000, { times: 1 })
  assert.deepEqual(await times(), [0, 5000])
  node.control.slowFirstByte(3000, { times: 1 })
  assert.deepEqual(await times(), [3000])
})

test('a status is answered with its body and headers', async (t) => {
  const node = await aNode(t)
  node.control.status(429, { error: 'slow down' }, { 'Retry-After': '7' }, { times: 1 })
  const limited = await raw(node)
  assert.equal(statusOf(limited), 'HTTP/1.1 429 Too Many Requests')
  assert.match(limited.text, /\r\nRetry-After: 7\r\n[\s\S]*\r\n\r\n\{"error":"slow down"\}$/)
  node.control.status(502, '<html>', { 'Content-Type': 'text/html' }, { times: 1 })
  assert.match((await raw(node)).text, /Content-Type: text\/html\r\n[\s\S]*<html>$/)
  node.control.status(500, undefined, {}, { times: 1 })
  assert.match((await raw(node)).text, /\{"error":"Internal Server Error"\}$/)
})

test('a busy node serves ready models and answers 503 for the rest, in each dialect', async (t) => {
  const node = await aNode(t)
  await raw(node)
  node.control.busy()
  assert.equal(statusOf(await raw(node)), 'HTTP/1.1 200 OK')
  const text = 'server busy, please try again.  maximum pending requests exceeded'
  const native = await raw(node, '/api/chat', { ...chat, model: 'other' })
  assert.ok(native.text.startsWith('HTTP/1.1 503 ') && native.text.endsWith(`\r\n\r\n{"error":"${text}"}`))
  const openai = await raw(node, '/v1/chat/completions', { ...chat, model: 'other' })
  assert.ok(
    openai.text.includes(`{"error":{"message":"${text}","type":"api_error","param":null,"code":null}}\n`),
  )
  assert.doesNotMatch(native.text, /retry-after/i)
  node.control.clear()
  assert.equal(statusOf(await raw(node, '/api/chat', { ...chat, model: 'other' })), 'HTTP/1.1 200 OK')
})

test('an error of the runner is a status before the first token, a line after it, and 400 on embed', async (t) => {
  const node = await aNode(t)
  const text = 'model runner has unexpectedly stopped'
  node.control.errorLine(0, text)
  const early = await raw(node)
  assert.equal(statusOf(early), 'HTTP/1.1 500 Internal Server Error')
  assert.match(early.text, /Content-Type: application\/json\r\n/)
  assert.ok(early.text.endsWith(`{"error":"${text}"}`))
  const embed = await raw(node, '/api/embed', { model: 'm', input: 'a' })
  assert.equal(statusOf(embed), 'HTTP/1.1 400 Bad Request')
  const embeddings = await raw(node, '/api/embeddings', { model: 'm', prompt: 'a' })
  assert.equal(statusOf(embeddings), 'HTTP/1.1 500 Internal Server Error')

  node.control.clear()
  node.control.errorLine(2, text)
  const late = await raw(node)
  assert.equal(statusOf(late), 'HTTP/1.1 200 OK')
  assert.deepEqual([chunksOf(late).length, chunksOf(late)[2]], [3, `{"error":"${text}"}\n`])
  const whole = await raw(node, '/api/chat', { ...chat, stream: false })
  assert.equal(statusOf(whole), 'HTTP/1.1 500 Internal Server Error')
  const swallowed = chunksOf(await raw(node, '/v1/chat/completions', { ...chat, stream: true }))
  assert.equal(swallowed.length, 3)
  assert.match(swallowed[2] ?? '', /"model":"".*"delta":\{"content":""\},"finish_reason":null\}\]\}\n\n$/)
})

test('a failure within a stream is swallowed by every /v1 route: on two an empty chunk, on two nothing', async (t) => {
  const node = await aNode(t)
  node.control.errorLine(1, 'model runner has unexpectedly stopped')
  const stream = { ...chat, stream: true, max_tokens: 9, prompt: 'hi', input: 'hi' }
  const chunks = async (path: string) => chunksOf(await raw(node, path, stream))
  const completion = await chunks('/v1/completions')
  assert.equal(completion.length, 2)
  assert.match(completion[1] ?? '', /"choices":\[\{"text":"",.*"model":""/)
  for (const path of ['/v1/responses', '/v1/messages']) {
    const spoken = await chunks(path)
    assert.equal(spoken.length, 1)
    assert.match(spoken[0] ?? '', /delta.*one /s)
  }
})

test('a dropped terminator leaves the rest of the stream whole, and ends it cleanly', async (t) => {
  const node = await aNode(t)
  node.control.dropTerminator()
  const stream = { ...chat, stream: true, max_tokens: 9, input: 'hi' }
  const ends: [string, RegExp][] = [
    ['/api/chat', /"content":"three"\},"done":false\}\n$/],
    ['/v1/chat/completions', /"delta":\{\},"finish_reason":"stop"\}\]\}\n\n$/],
    ['/v1/messages', /^event: content_block_stop\n[\s\S]*event: message_delta\n[^\n]*\n\n$/],
    ['/v1/responses', /event: response\.output_item\.done\n[^\n]*\n\n$/],
  ]
  for (const [path, end] of ends) {
    const seen = await raw(node, path, stream)
    assert.match(chunksOf(seen).at(-1) ?? '', end)
    assert.match(seen.text, /\r\n0\r\n\r\n$/)
  }
})

test('garbage in the middle is one chunk that is no JSON, framed as its stream is', async (t) => {
  const node = await aNode(t)
  node.control.garbageLine(1)
  const native = chunksOf(await raw(node))
  assert.deepEqual([native.length, native[1]], [5, '{"model":"simul\n'])
  const sse = chunksOf(await raw(node, '/v1/chat/completions', { ...chat, stream: true }))
  assert.equal(sse[1], 'data: {"model":"simul\n\n')
})

test('a cut within a chunk leaves half a line', async (t) => {
  const node = await aNode(t)
  node.control.cutInChunk(1)
  const seen = await raw(node)
  assert.equal(seen.end, 'reset')
  const [whole, half, ...rest] = chunksOf(seen)
  assert.match(whole ?? '', /\n$/)
  assert.match(half ?? '', /^\{"model":"m"[^\n]+$/)
  assert.deepEqual(rest, [null])
})

test('a drip writes every byte, a few at a time', async (t) => {
  const node = await aNode(t)
  const calm = chunksOf(
    await raw(node, '/api/generate', { model: 'm', prompt: 'hi', options: { num_predict: 1 } }),
  )
  node.control.drip(7, 0)
  const dripped = chunksOf(
    await raw(node, '/api/generate', { model: 'm', prompt: 'hi', options: { num_predict: 1 } }),
  )
  assert.ok(dripped.every((chunk) => (chunk?.length ?? 0) <= 7))
  assert.equal(withoutNumbers(dripped.join('')), withoutNumbers(calm.join('')))
})

/** Times differ from answer to answer. */
function withoutNumbers(text: string): string {
  return text.replaceAll(/"created_at":"[^"]*"|_duration":\d+/g, '')
}

test('a busy node may say when to come back, and an error of its child comes as JSON in JSON', async (t) => {
  const node = await aNode(t)
  node.control.busy({ retryAfter: 3, times: 1 })
  assert.match((await raw(node)).text, /^HTTP\/1\.1 503 [\s\S]*\r\nRetry-After: 3\r\n/)
  node.control.childError(500, 'Compute error.', { times: 1 })
  const { text } = await raw(node)
  const { error } = JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4))
  assert.deepEqual(JSON.parse(error).error, { code: 500, message: 'Compute error.', type: 'server_error' })
})

test('crashed runners fail what they compute, in-band or as 400 on embed, and the next request loads again', async (t) => {
  const clock = new VirtualClock()
  const model = { ...models[0]!, decodeTps: 10, promptTps: 10, capabilities: ['completion', 'embedding'] }
  const node = await aNode(t, { clock, models: [model] })
  const cut = raw(node)
  while (node.stats().tokens < 1) await clock.advance(10)
  const embedding = raw(node, '/api/embed', { model: 'm', input: 'one two three four' })
  while (node.requests[1]?.body === undefined) await clock.advance(0)
  node.control.crashRunners()
  await clock.runUntilIdle()
  const lines = chunksOf(await cut)
  assert.equal(lines.at(-1), '{"error":"an error was encountered while running the model: unexpected EOF"}\n')
  const embed = await embedding
  assert.equal(statusOf(embed), 'HTTP/1.1 400 Bad Request')
  assert.match(embed.text, /"do embedding request: Post [\s\S]*: EOF"\}$/)
  assert.equal(node.stats().models['m:latest']?.inFlight, 0)
  const again = raw(node)
  while (node.stats().loads < 2) await clock.advance(10)
  await clock.runUntilIdle()
  assert.equal(statusOf(await again), 'HTTP/1.1 200 OK')
})

test('a restart drops connections, loses what was loaded, and listens again when it is up', async (t) => {
  const clock = new VirtualClock()
  const node = await aNode(t, { clock, models: [{ ...models[0]!, decodeTps: 10 }] })
  const cut = raw(node)
  while (node.stats().tokens < 1) await clock.advance(10)
  const back = node.control.restart({ downMs: 1000 })
  assert.notEqual(chunksOf(await cut).at(-1), '')
  assert.equal(node.stats().models['m:latest']?.inFlight, 0)
  assert.deepEqual(await raw(node), { text: '', end: 'refused' })
  await clock.advance(1000)
  await back
  const again = raw(node)
  while (node.stats().loads < 2) await clock.advance(10)
  await clock.advance(1000)
  assert.equal(statusOf(await again), 'HTTP/1.1 200 OK')
})

test('a fault strikes what it matches, as often as it says, and is logged', async (t) => {
  const node = await aNode(t)
  node.control.status(
    500,
    undefined,
    {},
    { match: { path: '/api/chat', model: 'm', method: 'POST' }, times: 2 },
  )
  const statuses: string[] = []
  for (const [path, model] of [
    ['/api/chat', 'other'],
    ['/api/chat', 'm'],
    ['/api/generate', 'm'],
    ['/api/chat', 'm'],
    ['/api/chat', 'm'],
  ] as const) {
    statuses.push(statusOf(await raw(node, path, { ...chat, model })).slice(9, 12))
  }
  assert.deepEqual(statuses, ['200', '500', '200', '500', '200'])
  const struck = node.log.filter(({ type }) => type === 'fault')
  assert.deepEqual(
    struck.map(({ fault, request }) => [fault, request]),
    [
      ['status', 1],
      ['status', 3],
    ],
  )
})

test('a foreign Host or Origin gets a 403 without a body', async (t) => {
  const node = await aNode(t)
  const foreign = await raw(node, '/api/chat', chat, 'example.com')
  assert.equal(statusOf(foreign), 'HTTP/1.1 403 Forbidden')
  assert.ok(foreign.text.endsWith('\r\n\r\n'))
  const page = await fetch(`${node.url}/api/tags`, { headers: { Origin: 'https://example.com' } })
  assert.deepEqual([page.status, await page.text()], [403, ''])
})

test('a slow reader holds the answer back, and leaving then frees the slot', async (t) => {
  const node = await aNode(t)
  const socket = connect(node.port, '127.0.0.1')
  socket.pause()
  const body = JSON.stringify({ ...chat, options: { x_fake: { outTokens: 200_000 } } })
  socket.write(`POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  let tokens = -1
  while (tokens !== node.stats().tokens || tokens === 0) {
    tokens = node.stats().tokens
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.ok(tokens < 200_000)
  socket.destroy()
  while (node.stats().aborted === 0) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(node.stats().models['m:latest']?.inFlight, 0)
})

test('stopping twice is harmless, cuts open answers and frees the port', async (t) => {
  const node = await aNode(t, { models: [{ ...models[0]!, decodeTps: 0.01 }] })
  const cut = raw(node)
  while (node.requests.length === 0) await new Promise((resolve) => setImmediate(resolve))
  await Promise.all([node.stop(), node.stop()])
  assert.equal((await cut).text, '')
  const heir = await SimulatedNode.start({ name: 'heir', models, port: node.port })
  await assert.rejects(SimulatedNode.start({ name: 'late', models, port: node.port }), { code: 'EADDRINUSE' })
  await heir.stop()
})
