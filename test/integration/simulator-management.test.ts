import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { type TestContext, test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { bytesPerMiB, layersOf } from '../../lib/simulation/http/disk/layers.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode, type SimulatedNodeOptions } from '../../lib/simulation/http/simulated-node.ts'

const fast = { loadMs: 0, promptTps: 0, decodeTps: 0 }
const small = aModel({ name: 'small', sizeMiB: 10, ...fast, text: 'heard you' })
const big = aModel({ name: 'big:5b', sizeMiB: 5000, ...fast })
const ears = aModel({ name: 'ears', ...fast, text: 'hello', capabilities: ['completion', 'audio'] })
const [weights, config] = layersOf(big)
const json = 'application/json; charset=utf-8'

/** A node whose clock moves only while `drive` waits for something. */
async function aNode(t: TestContext, options: Partial<SimulatedNodeOptions> = {}) {
  const clock = new VirtualClock()
  const node = await SimulatedNode.start({
    name: 'managed',
    models: [small, ears],
    registry: [big, small],
    clock,
    ...options,
  })
  t.after(() => node.stop())

  const call = async (method: string, path: string, body?: unknown, init: RequestInit = {}) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const response = await fetch(node.url + path, {
      method,
      ...(body === undefined ? {} : { body: text }),
      ...init,
    })
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      text: await response.text(),
    }
  }
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
  const pull = (body: object = {}) => drive(call('POST', '/api/pull', { model: 'big:5b', ...body }))
  const names = async () => {
    const { models } = JSON.parse((await call('GET', '/api/tags')).text)
    return models.map(({ name }: { name: string }) => name)
  }
  return { node, clock, call, drive, pull, names }
}

function turn() {
  return new Promise((resolve) => setImmediate(resolve))
}

interface Line {
  status: string
  digest?: string
  total?: number
  completed?: number
}

function linesOf({ text }: { text: string }): Line[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

/** What a pull of the big model says of its weights. */
function progressOf(answer: { text: string }): number[] {
  return linesOf(answer)
    .filter(({ digest }) => digest === weights?.digest)
    .map(({ completed = 0 }) => completed)
}

const short = (digest = '') => digest.slice('sha256:'.length, 'sha256:'.length + 12)

/** The line of a layer that is `completed` bytes long by now. */
function line(verb: string, { digest = '', bytes = 0 } = weights ?? {}, completed = bytes): string {
  return `{"status":"${verb} ${short(digest)}","digest":"${digest}","total":${bytes},"completed":${completed}}`
}

const sayings = (...statuses: string[]) => statuses.map((status) => `{"status":"${status}"}`)

test('pull: a line each 60 ms at the speed of the node, then the model is there, the newest first', async (t) => {
  const { clock, pull, call } = await aNode(t, { netMiBps: 100 })
  const answer = await pull()
  assert.equal(answer.type, 'application/x-ndjson')
  const lines = answer.text.split('\n')
  assert.deepEqual(lines.slice(0, 2), [
    ...sayings('pulling manifest'),
    line('pulling', weights, 6 * bytesPerMiB),
  ])
  assert.deepEqual(lines.slice(-6), [
    line('pulling'),
    line('pulling', config),
    ...sayings('verifying sha256 digest', 'writing manifest', 'success'),
    '',
  ])
  assert.ok(Math.abs(clock.now() - 50_000) < 100, `took ${clock.now()} ms of the clock`)
  const [listed] = JSON.parse((await call('GET', '/api/tags')).text).models
  assert.deepEqual([listed.name, listed.digest, listed.size], ['big:5b', big.digest, 5000 * bytesPerMiB])
})

test('pull: what is there takes one line for each layer, and without a stream there is the last line alone', async (t) => {
  const { pull } = await aNode(t)
  const again = await pull({ model: 'SMALL' })
  assert.deepEqual(again.text.split('\n'), [
    ...sayings('pulling manifest'),
    ...layersOf(small).map((layer) => line('pulling', layer)),
    ...sayings('verifying sha256 digest', 'writing manifest', 'success'),
    '',
  ])
  assert.deepEqual(await pull({ stream: false }), { status: 200, type: json, text: '{"status":"success"}' })
})

test('pull: a name that no registry knows is an error in band, a 500 without a stream, a 400 when it is no name', async (t) => {
  const { pull } = await aNode(t)
  const error = '{"error":"pull model manifest: file does not exist"}'
  const streamed = await pull({ model: 'absent' })
  assert.deepEqual([streamed.status, streamed.text], [200, `{"status":"pulling manifest"}\n${error}\n`])
  assert.deepEqual(await pull({ model: 'absent', stream: false }), { status: 500, type: json, text: error })
  assert.deepEqual(await pull({ model: 'a b' }), {
    status: 400,
    type: json,
    text: '{"error":"invalid model name"}',
  })
})

/** Begins a pull that its client gives up after `ms` milliseconds of the clock. */
async function abandoned({ node, clock }: Awaited<ReturnType<typeof aNode>>, ms: number): Promise<void> {
  const leaving = new AbortController()
  const aborted = node.stats().aborted
  const body = JSON.stringify({ model: 'big:5b' })
  const response = await fetch(`${node.url}/api/pull`, { method: 'POST', body, signal: leaving.signal })
  await clock.advance(ms)
  leaving.abort()
  await response.text().catch(() => {})
  while (node.stats().aborted === aborted) await turn()
}

test('pull: goes on where the last one was left, from zero after a restart', async (t) => {
  const managed = await aNode(t, { netMiBps: 100 })
  await abandoned(managed, 30_000)
  const before = managed.clock.now()
  await managed.clock.advance(60_000)
  const [first = 0] = progressOf(await managed.pull())
  assert.ok(first >= 3000 * bytesPerMiB && first < 3020 * bytesPerMiB, `went on at ${first}`)
  assert.ok(managed.clock.now() - before < 81_000)
  await managed.call('DELETE', '/api/delete', { model: 'big:5b' })
  await abandoned(managed, 30_000)
  await managed.drive(managed.node.control.restart({ downMs: 10 }))
  const [anew = 0] = progressOf(await managed.pull())
  assert.ok(anew < 20 * bytesPerMiB, `began at ${anew}`)
})

test('pull: two of one blob share it, and one that leaves does not stop the other', async (t) => {
  const managed = await aNode(t, { netMiBps: 100 })
  const first = managed.call('POST', '/api/pull', { model: 'big:5b' })
  while (managed.clock.nextTimerAt() === null) await turn()
  await managed.clock.advance(20_000)
  await abandoned(managed, 10_000)
  const late = await managed.pull()
  const [joinedAt = 0] = progressOf(late)
  assert.ok(joinedAt >= 3000 * bytesPerMiB, `joined at ${joinedAt}`)
  for (const answer of [await first, late]) assert.equal(linesOf(answer).at(-1)?.status, 'success')
  assert.ok(managed.clock.now() < 51_000, `took ${managed.clock.now()} ms of the clock`)
})

test('faults of a pull: a stall, a digest that is wrong, a full disk', async (t) => {
  const { node, clock, pull, names } = await aNode(t, { netMiBps: 100 })
  const tag = weights?.digest.replace(':', '-')
  node.control.diskFull(1000, { times: 1 })
  const full = await pull()
  assert.equal(
    full.text.trimEnd().split('\n').at(-1),
    `{"error":"write /root/.ollama/models/blobs/${tag}-partial: no space left on device"}`,
  )
  node.control.corruptDownload({ times: 1 })
  const corrupt = linesOf(await pull())
  assert.equal(corrupt.at(-2)?.status, 'verifying sha256 digest')
  assert.match(
    JSON.stringify(corrupt.at(-1)),
    /^\{"error":"digest mismatch, file must be downloaded again: want sha256:/,
  )
  assert.ok(!(await names()).includes('big:5b'))
  node.control.stallDownload(2000, 15_000, { times: 1, match: { model: 'big:5b' } })
  const before = clock.now()
  const stalled = progressOf(await pull())
  assert.ok(stalled.filter((completed) => completed === 2000 * bytesPerMiB).length > 200)
  assert.ok(clock.now() - before > 64_900)
  assert.ok((await names()).includes('big:5b'))
})

test('push: its lines, and an error in band for what is not there', async (t) => {
  const { call, drive } = await aNode(t, { netMiBps: 100 })
  const lines = (await drive(call('POST', '/api/push', { model: 'small' }))).text.split('\n')
  const [body, conf] = layersOf(small)
  assert.deepEqual(lines, [
    ...sayings('retrieving manifest'),
    line('pushing', body, 6 * bytesPerMiB),
    line('pushing', body),
    line('pushing', conf),
    ...sayings('pushing manifest', 'success'),
    '',
  ])
  const absent = await drive(call('POST', '/api/push', { model: 'absent' }))
  assert.deepEqual([absent.status, absent.text.split('\n').at(-2)], [200, '{"error":"file does not exist"}'])
})

test('copy and delete: a second name for the same digest, and the blobs go with the last name', async (t) => {
  const { call, names } = await aNode(t)
  const done = { status: 200, type: null, text: '' }
  assert.deepEqual(await call('POST', '/api/copy', { source: 'small', destination: 'me/twin' }), done)
  const { models } = JSON.parse((await call('GET', '/api/tags')).text)
  const [twin] = models.filter(({ name }: { name: string }) => name === 'me/twin:latest')
  assert.equal(twin.digest, small.digest)
  const blob = `/api/blobs/${layersOf(small)[0]?.digest}`
  assert.deepEqual(await call('DELETE', '/api/delete', { name: 'Small' }), done)
  assert.equal((await call('HEAD', blob)).status, 200)
  assert.deepEqual(await call('DELETE', '/api/delete', { model: 'me/twin' }), done)
  assert.equal((await call('HEAD', blob)).status, 404)
  assert.deepEqual(await names(), ['ears:latest'])
  const refusals: [string, string, object, number, string][] = [
    ['DELETE', '/api/delete', { model: 'small' }, 404, "model 'small' not found"],
    ['DELETE', '/api/delete', { model: 'a b' }, 400, 'name \\"a b\\" is invalid'],
    ['POST', '/api/copy', { source: 'small', destination: 'x' }, 404, 'model \\"small\\" not found'],
    ['POST', '/api/copy', { source: 'a b', destination: 'x' }, 400, 'source \\"a b\\" is invalid'],
    ['POST', '/api/copy', { source: 'ears', destination: '' }, 400, 'destination \\"\\" is invalid'],
  ]
  for (const [method, path, body, status, text] of refusals)
    assert.deepEqual(await call(method, path, body), { status, type: json, text: `{"error":"${text}"}` })
})

const digestOf = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`
const gguf = `GGUF${'x'.repeat(1000)}`

test('blobs: created, there already, mismatched, malformed, and no space for them', async (t) => {
  const { node, call } = await aNode(t)
  const path = `/api/blobs/${digestOf(gguf)}`
  const empty = { type: null, text: '' }
  assert.deepEqual(await call('HEAD', path), { status: 404, ...empty })
  const got = digestOf('other')
  assert.deepEqual(await call('POST', path, 'other'), {
    status: 400,
    type: json,
    text: `{"error":"digest mismatch, expected \\"${digestOf(gguf)}\\", got \\"${got}\\""}`,
  })
  node.control.diskFull(0, { times: 1, match: { path } })
  const full = await call('POST', path, gguf)
  assert.deepEqual([full.status, /no space left on device/.test(full.text)], [500, true])
  assert.deepEqual(await call('POST', path, gguf), { status: 201, ...empty })
  assert.deepEqual(await call('POST', path, gguf), { status: 200, ...empty })
  assert.deepEqual(await call('HEAD', path), { status: 200, ...empty })
  assert.deepEqual(await call('HEAD', '/api/blobs/sha256:12'), { status: 400, ...empty })
  assert.deepEqual(await call('POST', '/api/blobs/x', 'y'), {
    status: 400,
    type: json,
    text: '{"error":"invalid digest format"}',
  })
})

test('blobs: a client that leaves in the middle leaves nothing behind', async (t) => {
  const { node, call } = await aNode(t)
  const path = `/api/blobs/${digestOf(gguf)}`
  const upload = request(node.url + path, { method: 'POST', headers: { 'Content-Length': gguf.length } })
  upload.on('error', () => {})
  upload.write(gguf.slice(0, 100))
  while (node.requests.length === 0) await turn()
  upload.destroy()
  while (node.stats().aborted === 0) await turn()
  assert.equal((await call('HEAD', path)).status, 404)
})

test('create: from a base, whose layers are used, with a system prompt of its own', async (t) => {
  const { call, node } = await aNode(t)
  const body = {
    model: 'mine',
    from: 'small',
    system: 'Be brief.',
    parameters: { temperature: 1, stop: ['a', 'b'] },
  }
  const statuses = linesOf(await call('POST', '/api/create', body)).map(({ status }) => status)
  assert.equal(statuses[0], `using existing layer ${layersOf(small)[0]?.digest}`)
  assert.equal(statuses[1], `creating new layer ${digestOf('Be brief.')}`)
  assert.deepEqual(statuses.slice(-2), ['writing manifest', 'success'])
  const shown = JSON.parse((await call('POST', '/api/show', { model: 'mine', verbose: true })).text)
  assert.equal(shown.system, 'Be brief.')
  assert.equal(shown.details.parent_model, 'small:latest')
  assert.equal(shown.parameters.split('\n')[1], 'stop                           "a"')
  assert.deepEqual([shown.tensors.length, shown.model_info['tokenizer.ggml.tokens'].length], [1, 2])
  const digestIn = async (url: string) =>
    JSON.parse(await (await fetch(`${url}/api/tags`)).text()).models[0].digest
  const twin = await aNode(t)
  await twin.call('POST', '/api/create', body)
  assert.equal(await digestIn(twin.node.url), await digestIn(node.url), 'the same on every node')
})

test('create: a base that is not there is pulled first, and its absence is an error in band', async (t) => {
  const { call, drive, names } = await aNode(t)
  const lines = linesOf(await drive(call('POST', '/api/create', { model: 'mine', from: 'big:5b' })))
  assert.deepEqual([lines[0]?.status, lines.at(-1)?.status], ['pulling manifest', 'success'])
  assert.deepEqual((await names()).toSorted(), ['big:5b', 'ears:latest', 'mine:latest', 'small:latest'])
  const absent = await drive(call('POST', '/api/create', { model: 'mine', from: 'absent' }))
  assert.match(absent.text, /\n\{"error":"pull model manifest: file does not exist"\}\n$/)
})

test('create: from a blob of this node, which it then can load and list', async (t) => {
  const { call, names } = await aNode(t)
  const files = { 'm.gguf': digestOf(gguf) }
  assert.equal((await call('POST', `/api/blobs/${digestOf(gguf)}`, gguf)).status, 201)
  const made = linesOf(await call('POST', '/api/create', { model: 'made', files }))
  assert.deepEqual(
    made.slice(0, 2).map(({ status }) => status),
    ['parsing GGUF', `using existing layer ${digestOf(gguf)}`],
  )
  assert.ok((await names()).includes('made:latest'))
  const missing = digestOf('elsewhere')
  const refusals: [object, number, string][] = [
    [{}, 400, "neither 'from' or 'files' was specified"],
    [{ files: { '/etc/m.gguf': missing } }, 400, 'file path must be relative'],
    [{ files: { 'm.bin': missing } }, 400, 'unknown type'],
    [
      { files: { 'm.gguf': missing } },
      500,
      `open /root/.ollama/models/blobs/${missing.replace(':', '-')}: no such file or directory`,
    ],
    [{ model: 'a b', files }, 400, 'invalid model name'],
  ]
  for (const [body, status, text] of refusals) {
    const answer = await call('POST', '/api/create', { model: 'made', ...body })
    assert.deepEqual([answer.status, answer.text], [status, `{"error":"${text}"}`])
  }
})

test('/v1/models/:model, the status, and what an identity at ollama.com would be needed for', async (t) => {
  const { call, clock } = await aNode(t)
  const created = Math.floor(clock.date().getTime() / 1000)
  assert.deepEqual(await call('GET', '/v1/models/Small'), {
    status: 200,
    type: 'application/json',
    text: `{"id":"Small","object":"model","created":${created},"owned_by":"library"}\n`,
  })
  const absent = await call('GET', '/v1/models/absent')
  assert.deepEqual([absent.status, JSON.parse(absent.text).error.type], [404, 'not_found_error'])
  for (const path of ['/v1/models/me/small', '/v1/models/me%2Fsmall'])
    assert.equal((await call('GET', path)).text, '404 page not found')
  assert.equal((await call('GET', '/api/status')).text, '{"cloud":{"disabled":false,"source":"none"}}')
  for (const path of ['/api/me', '/api/experimental/web_search', '/api/experimental/web_fetch']) {
    const { status, text } = await call('POST', path, {})
    assert.deepEqual([status, JSON.parse(text).error], [401, 'unauthorized'])
  }
  assert.equal((await call('POST', '/api/signout')).status, 401)
  assert.equal((await call('DELETE', '/api/user/keys/abc')).status, 401)
  assert.equal((await call('GET', '/api/experimental/model-recommendations')).status, 200)
})

test('show: Copilot is told the requested name', async (t) => {
  const { call } = await aNode(t)
  const headers = { 'User-Agent': 'GitHubCopilotChat/1.0' }
  const shown = JSON.parse((await call('POST', '/api/show', { model: 'SMALL' }, { headers })).text)
  assert.equal(shown.model_info['general.basename'], 'SMALL')
})

test('transcriptions: a form in, JSON or plain text out', async (t) => {
  const { call, drive } = await aNode(t)
  const transcribe = (fields: Record<string, string | Blob>) => {
    const body = new FormData()
    for (const [name, value] of Object.entries(fields)) body.set(name, value)
    return drive(call('POST', '/v1/audio/transcriptions', undefined, { body }))
  }
  const file = new Blob(['RIFF....'])
  assert.deepEqual(await transcribe({ model: 'ears', file }), {
    status: 200,
    type: 'application/json',
    text: '{"text":"hello"}\n',
  })
  const plain = await transcribe({ model: 'ears', file, response_format: 'text' })
  assert.deepEqual([plain.type, plain.text], ['text/plain; charset=utf-8', 'hello'])
  const messageOf = async (fields: Record<string, string | Blob>) => {
    const { status, text } = await transcribe(fields)
    return [status, JSON.parse(text).error.message]
  }
  assert.deepEqual(await messageOf({ model: 'ears' }), [400, 'file is required'])
  assert.deepEqual(await messageOf({ file }), [400, 'model is required'])
  assert.deepEqual(await messageOf({ model: 'absent', file }), [404, "model 'absent' not found"])
  assert.equal((await messageOf({ model: 'small', file }))[0], 400)
})

test('zstd bodies are understood on the routes of /v1 and nowhere else', async (t) => {
  const { call, drive } = await aNode(t)
  const send = (path: string, bytes: Buffer) =>
    drive(
      call('POST', path, undefined, {
        body: Uint8Array.from(bytes),
        headers: { 'Content-Encoding': 'zstd' },
      }),
    )
  const body = { model: 'small', max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] }
  const packed = zstdCompressSync(JSON.stringify(body))
  assert.match((await send('/v1/chat/completions', packed)).text, /heard you/)
  assert.match((await send('/v1/messages', packed)).text, /heard you/)
  const { status, text } = await send('/api/chat', packed)
  assert.deepEqual([status, text], [400, `{"error":"invalid character '(' looking for beginning of value"}`])
  assert.equal((await send('/v1/chat/completions', Buffer.from('{}'))).status, 400)
  const bomb = zstdCompressSync(Buffer.alloc(21 * bytesPerMiB))
  assert.match((await send('/v1/chat/completions', bomb)).text, /request body too large/)
})

test('CORS: a preflight is answered with the list, an allowed page gets its name back, others a bare 403', async (t) => {
  const { node } = await aNode(t)
  const headersOf = async (method: string, origin: string) => {
    const response = await fetch(`${node.url}/api/chat`, { method, headers: { Origin: origin } })
    await response.text()
    return { status: response.status, headers: response.headers }
  }
  const preflight = await headersOf('OPTIONS', 'http://localhost:3000')
  assert.equal(preflight.status, 204)
  assert.equal(preflight.headers.get('access-control-allow-origin'), 'http://localhost:3000')
  assert.equal(preflight.headers.get('access-control-max-age'), '43200')
  assert.doesNotMatch(preflight.headers.get('access-control-allow-headers') ?? '', /x-api-key/i)
  const asked = await headersOf('GET', 'app://obsidian.md')
  assert.deepEqual(
    [asked.status, asked.headers.get('access-control-allow-origin'), asked.headers.get('vary')],
    [405, 'app://obsidian.md', 'Origin'],
  )
  const foreign = await headersOf('OPTIONS', 'https://example.com')
  assert.deepEqual([foreign.status, foreign.headers.get('access-control-allow-origin')], [403, null])
  assert.equal((await headersOf('OPTIONS', node.url)).status, 405, 'its own pages are nobody else')
})
