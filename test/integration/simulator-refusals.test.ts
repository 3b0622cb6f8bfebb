import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'

const fast = { loadMs: 0, promptTps: 0, decodeTps: 0 }
const models = [
  aModel({ name: 'chats', ...fast, text: 'one two three' }),
  aModel({ name: 'sees', ...fast, text: 'a llama', capabilities: ['completion', 'vision'] }),
  aModel({ name: 'embeds', ...fast, embedDim: 4, capabilities: ['embedding'] }),
]
const png = 'iVBORw0KGgo='
const dataUrl = `data:image/png;base64,${png}`
const noEmbeddings = 'This server does not support embeddings. Start it with `--embeddings`'
const noImages =
  'image input is not supported - hint: if this is unexpected, you may need to provide the mmproj'
const levels = '"high", "medium", "low", "max", true, or false'
const noUrls = 'image URLs are not currently supported, please use base64 encoded data instead'
const twoAnswers = 'Cannot have 2 or more assistant messages at the end of the list.'

let node: SimulatedNode
before(async () => {
  node = await SimulatedNode.start({ name: 'n', models })
})
after(() => node.stop())

const say = (role: string, content: unknown, more = {}) => ({ messages: [{ role, content, ...more }] })
const openaiImage = (url: string) => say('user', [{ type: 'image_url', image_url: { url } }])
const anthropicImage = (source: object) => ({
  max_tokens: 8,
  ...say('user', [{ type: 'image', source }]),
})

async function post(path: string, body: object, at = node) {
  const answer = await fetch(at.url + path, {
    method: 'POST',
    body: JSON.stringify({ model: 'chats', ...body }),
    redirect: 'manual',
  })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

/** The sentence of an error, and of the one inside it where that is JSON. */
function sentence(text: string): string {
  const { error } = JSON.parse(text) as { error: string | { message: string } }
  const outer = typeof error === 'string' ? error : error.message
  return outer.startsWith('{') ? sentence(outer) : outer
}

/** What Ollama 0.33 answers to requests that are wrong, and to those that are right beside them. */
const cases: readonly [path: string, body: object, status: number, error?: string][] = [
  ['/api/embed', { input: 'x' }, 501, noEmbeddings],
  ['/api/embeddings', { prompt: 'x' }, 500, noEmbeddings],
  ['/v1/embeddings', { input: 'x' }, 501, noEmbeddings],
  ['/api/embed', { model: 'embeds', input: 'x' }, 200],
  ['/api/embed', { input: '' }, 200],
  ['/api/chat', { ...say('user', 'x'), keep_alive: true }, 400, "Unsupported type: 'bool'"],
  ['/api/chat', { ...say('user', 'x'), keep_alive: [1] }, 400, "Unsupported type: '[]interface {}'"],
  [
    '/api/chat',
    { ...say('user', 'x'), think: 'extreme' },
    400,
    `invalid think value: "extreme" (must be ${levels})`,
  ],
  ['/api/chat', { ...say('user', 'x'), think: null, keep_alive: null }, 200],
  ['/api/generate', { prompt: 'x', think: 5 }, 400, `think must be a boolean or string (${levels})`],
  ['/api/chat', say('user', 'what?', { images: [png] }), 500, noImages],
  ['/api/chat', { ...say('user', 'what?', { images: [png] }), stream: false }, 500, noImages],
  ['/api/generate', { prompt: 'what?', images: [png] }, 500, noImages],
  ['/v1/chat/completions', openaiImage(dataUrl), 500, noImages],
  ['/v1/messages', anthropicImage({ type: 'base64', data: png }), 500, noImages],
  ['/api/chat', { model: 'sees', ...say('user', 'what?', { images: [png] }) }, 200],
  ['/v1/chat/completions', { model: 'sees', ...openaiImage(dataUrl) }, 200],
  ['/api/chat', say('user', 'x', { images: ['%%%%'] }), 400, 'illegal base64 data at input byte 0'],
  ['/api/generate', { prompt: 'x', images: ['aGk'] }, 400, 'illegal base64 data at input byte 0'],
  ['/v1/chat/completions', openaiImage('https://example.com/a.png'), 400, noUrls],
  ['/v1/chat/completions', openaiImage('data:image/gif;base64,aGk='), 400, 'invalid image input'],
  ['/v1/chat/completions', openaiImage('data:image/png;base64,!'), 400, 'invalid image input'],
  [
    '/v1/messages',
    anthropicImage({ type: 'url', url: 'https://example.com/a.png' }),
    400,
    'invalid image source type: url. Only base64 images are supported.',
  ],
  [
    '/v1/messages',
    anthropicImage({ type: 'base64', data: '!' }),
    400,
    'invalid base64 image data: illegal base64 data at input byte 0',
  ],
  [
    '/api/chat',
    { ...say('user', 'x'), format: 'xml' },
    500,
    String.raw`invalid format: "\"xml\""; expected "json" or a valid JSON Schema object`,
  ],
  [
    '/api/generate',
    { prompt: 'x', format: 7 },
    500,
    'invalid format: "7"; expected "json" or a valid JSON Schema object',
  ],
  ['/api/chat', { ...say('user', 'x'), format: { type: 'object' } }, 200],
  [
    '/api/chat',
    { messages: ['user', 'assistant', 'assistant'].map((role) => ({ role, content: 'x' })) },
    400,
    twoAnswers,
  ],
  ['/api/chat', { messages: ['user', 'assistant'].map((role) => ({ role, content: 'x' })) }, 200],
  [
    '/api/chat',
    { ...say('user', 'x'), logprobs: true, top_logprobs: 21 },
    400,
    'top_logprobs must be between 0 and 20',
  ],
  ['/api/chat', { model: 'gpt-oss:120b-cloud', ...say('user', 'x') }, 401, 'unauthorized'],
  ['/v1/chat/completions', { model: 'gpt-oss:cloud', ...say('user', 'x') }, 401, 'unauthorized'],
]

suite('a simulated node answers a request that is wrong as Ollama does', () => {
  for (const [path, body, status, error] of cases)
    test(`${path} ${JSON.stringify(body).slice(0, 100)} (373)`, async () => {
      const answer = await post(path, body)
      assert.equal(answer.status, status, answer.text)
      if (error !== undefined) assert.equal(sentence(answer.text), error)
    })

  test('a number of dimensions that is not positive is none (373)', async () => {
    const { text } = await post('/api/embed', { model: 'embeds', input: 'x', dimensions: -1 })
    assert.equal(JSON.parse(text).embeddings[0].length, 4)
  })

  test('an error of the child is JSON in JSON, with its own status and type (373)', async () => {
    const { text } = await post('/api/chat', say('user', 'what?', { images: [png] }))
    const { error } = JSON.parse(text) as { error: string }
    assert.deepEqual(JSON.parse(error), { error: { code: 500, message: noImages, type: 'server_error' } })
  })

  test('a model of ollama.com is refused where the cloud is off (373)', async (t) => {
    const off = await SimulatedNode.start({ name: 'off', models, cloud: 'off' })
    t.after(() => off.stop())
    const refused = 'ollama cloud is disabled: remote model is unavailable'
    for (const [path, body] of [
      ['/api/chat', say('user', 'x')],
      ['/api/embed', { input: 'x' }],
      ['/v1/chat/completions', say('user', 'x')],
    ] as const) {
      const answer = await post(path, { ...body, model: 'gpt-oss:120b-cloud' }, off)
      assert.deepEqual([answer.status, answer.text], [403, JSON.stringify({ error: refused })])
    }
    const shown = await post('/api/show', { model: 'gpt-oss:120b-cloud' }, off)
    assert.match(shown.text, /remote model details are unavailable/)
    assert.match(await (await fetch(`${off.url}/api/status`)).text(), /"disabled":true,"source":"env"/)
  })
})

test('a slash too many is a redirect, 301 to read and 307 to send again (373)', async () => {
  const read = await fetch(`${node.url}/api/tags/`, { redirect: 'manual' })
  assert.deepEqual([read.status, read.headers.get('location')], [301, '/api/tags'])
  const sent = await post('/api/chat/', say('user', 'x'))
  assert.deepEqual([sent.status, sent.headers.get('location'), sent.text], [307, '/api/chat', ''])
  for (const path of ['/api/chat/', '/api/none/', '/api/tags//'])
    assert.equal((await fetch(node.url + path)).status, 404, path)
})

test('a push without a registry fails before its first layer (373)', async () => {
  node.control.registryAway({ match: { path: '/api/push' } })
  const { text } = await post('/api/push', {})
  assert.match(text, /^{"status":"retrieving manifest"}\n{"error":"Head .*no such host"}\n$/)
  node.control.clear()
})

test('likelihoods come with each token that is asked for with them, and with no other (373)', async () => {
  interface Said {
    readonly token: string
    readonly logprob: number
    readonly bytes: readonly number[]
    readonly top_logprobs?: readonly { readonly token: string; readonly logprob: number }[]
  }
  const whole = await post('/api/chat', {
    ...say('user', 'x'),
    stream: false,
    logprobs: true,
    top_logprobs: 2,
  })
  const { logprobs } = JSON.parse(whole.text) as { logprobs: readonly Said[] }
  assert.deepEqual(
    logprobs.map(({ token }) => token),
    ['one ', 'two ', 'three'],
  )
  for (const { token, logprob, bytes, top_logprobs = [] } of logprobs) {
    assert.ok(logprob < 0)
    assert.equal(Buffer.from(bytes).toString(), token)
    assert.deepEqual([top_logprobs.length, top_logprobs[0]?.token], [2, token])
    assert.ok((top_logprobs[1]?.logprob ?? 0) < logprob)
  }
  const streamed = await post('/api/generate', { prompt: 'x', logprobs: true })
  const lines = streamed.text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.deepEqual(
    lines.map((line) => line.logprobs?.length),
    [1, 1, 1, undefined],
  )
  assert.ok(!('top_logprobs' in lines[0].logprobs[0]))
  const openai = await post('/v1/chat/completions', { ...say('user', 'x'), logprobs: true })
  assert.equal(JSON.parse(openai.text).choices[0].logprobs.content.length, 3)
  assert.doesNotMatch((await post('/api/chat', say('user', 'x'))).text, /logprob/)
})

test('cached prompt tokens are counted since 0.33.3 (373)', async (t) => {
  const long = { ...say('user', `${'hello '.repeat(50)}xyz`), stream: false }
  assert.doesNotMatch((await post('/api/chat', long)).text, /cached/)
  const newer = await SimulatedNode.start({ name: 'newer', models, version: '0.33.3' })
  t.after(() => newer.stop())
  const [first, second] = [await post('/api/chat', long, newer), await post('/api/chat', long, newer)]
  assert.equal(JSON.parse(first.text).prompt_eval_cached_count, 0)
  const { prompt_eval_count, prompt_eval_cached_count } = JSON.parse(second.text)
  assert.equal(prompt_eval_cached_count, prompt_eval_count - 1, 'the last token is read again')
  const openai = JSON.parse((await post('/v1/chat/completions', long, newer)).text)
  assert.equal(openai.usage.prompt_tokens_details.cached_tokens, prompt_eval_cached_count)
})

test('a blob that is there is answered at once, and its bytes are not read (373)', async () => {
  const blob = Buffer.from('GGUF and more')
  const path = `/api/blobs/sha256:${createHash('sha256').update(blob).digest('hex')}`
  assert.equal((await fetch(node.url + path, { method: 'POST', body: blob })).status, 201)
  const socket = connect({ port: node.port, host: '127.0.0.1', allowHalfOpen: true })
  const chunks: string[] = []
  const answered = new Promise((resolve) => socket.on('data', (chunk) => resolve(chunks.push(String(chunk)))))
  const closed = new Promise((resolve) => socket.on('close', resolve))
  socket.on('error', () => {})
  const bytes = 64 * 1024 * 1024
  socket.write(`POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes}\r\n\r\n`)
  await answered
  assert.match(chunks.join(''), /^HTTP\/1\.1 200 OK\r\nConnection: close\r\n/)
  const piece = Buffer.alloc(64 * 1024)
  let taken = 0
  const push = (error?: Error | null) => {
    if (error || socket.destroyed || taken >= bytes) return
    taken += piece.length
    socket.write(piece, push)
  }
  push()
  await closed
  assert.ok(taken < bytes, 'the node read the body')
  assert.equal((await fetch(`${node.url}/api/version`)).status, 200)
})

test('a node that was killed leaves its runners behind, which hold their memory (373)', async (t) => {
  const big = aModel({ name: 'big', ...fast, sizeMiB: 14_000, kvMiBPer1kCtx: 0 })
  const half = aModel({ name: 'half', ...fast, sizeMiB: 9000, kvMiBPer1kCtx: 0 })
  const at = await SimulatedNode.start({ name: 'killed', models: [big, half] })
  t.after(() => at.stop())
  const loaded = async () => {
    const { models } = (await (await fetch(`${at.url}/api/ps`)).json()) as {
      models: { name: string; size: number; size_vram: number }[]
    }
    return models.map(({ name, size, size_vram }) => [name, size_vram < size])
  }
  await post('/api/generate', { model: 'big' }, at)
  await post('/api/generate', { model: 'half' }, at)
  assert.deepEqual(
    (await loaded()).map(([name]) => name),
    ['half:latest'],
    'one makes room for the other',
  )
  await at.control.kill({ downMs: 1 })
  assert.deepEqual(await loaded(), [])
  await post('/api/generate', { model: 'big' }, at)
  await post('/api/generate', { model: 'half' }, at)
  await at.control.kill({ downMs: 1 })
  await post('/api/generate', { model: 'big' }, at)
  assert.deepEqual(await loaded(), [['big:latest', true]], 'part of it is in the memory of the machine')
  await at.control.restart({ downMs: 1 })
  await post('/api/generate', { model: 'big' }, at)
  assert.deepEqual(await loaded(), [['big:latest', false]])
})
