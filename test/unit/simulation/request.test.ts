import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLocalHost } from '../../../lib/shared/net/hosts.ts'
import { readChat, readChatCompletion, readGenerate } from '../../../lib/simulation/http/dialects/request.ts'
import { aModel } from '../../../lib/simulation/http/disk/model-definition.ts'
import { parseName } from '../../../lib/simulation/http/disk/model-name.ts'
import { Shelf, type Wording } from '../../../lib/simulation/http/disk/shelf.ts'
import { fingerprintOf, keepAliveMs } from '../../../lib/simulation/http/engine/fingerprint.ts'
import { decodeBody, goString } from '../../../lib/simulation/http/json.ts'
import { isOriginAllowed } from '../../../lib/simulation/http/ollama-cors.ts'

const decode = (text: string) => decodeBody(Buffer.from(text))
const refusal = (status: number, message: string) => ({ name: 'Refusal', status, message })

test('bytes after the first JSON value are ignored', () => {
  assert.deepEqual(decode('{"a":"}\\"]"} trailing {'), { a: '}"]' })
  assert.deepEqual(decode(' [1,[2]]]'), [1, [2]])
})

test('a body that is no JSON is refused in the words of the Go decoder', () => {
  assert.throws(() => decode(''), refusal(400, 'EOF'))
  assert.throws(() => decode('{"model":"m'), refusal(400, 'unexpected EOF'))
  assert.throws(() => decode('{"a":!}'), refusal(400, "invalid character '!' looking for beginning of value"))
})

test('keys match in any case, and the last of two wins', () => {
  assert.equal(readGenerate(decode('{"MODEL":"a","Prompt":"p"}')).model, 'a')
  assert.equal(readGenerate(decode('{"model":"a","Model":"b"}')).model, 'b')
  assert.equal(readGenerate(decode('{"model":"a","model":"b"}')).model, 'b')
})

test('a field of the wrong type is refused by its name, null is no value', () => {
  assert.throws(
    () => readChat({ model: 5 }),
    refusal(400, 'json: cannot unmarshal number into Go struct field ChatRequest.model of type string'),
  )
  assert.throws(
    () => readChat(['model']),
    refusal(400, 'json: cannot unmarshal array into Go value of type ChatRequest'),
  )
  assert.equal(readChat({ model: 'm', stream: null, keep_alive: null }).stream, true)
})

test('streaming is on unless said otherwise on the native routes, off on /v1', () => {
  const messages = [{ role: 'user', content: 'hi' }]
  assert.equal(readChat({ model: 'm', messages }).stream, true)
  assert.equal(readChatCompletion({ model: 'm', messages }).stream, false)
})

test('the prompt of the next turn begins with this prompt and its answer', () => {
  const turn = { role: 'user', content: 'hi' }
  const first = readChat({ model: 'm', messages: [turn] }).prompt
  const messages = [turn, { role: 'assistant', content: 'hello' }, { role: 'user', content: 'more' }]
  assert.ok(readChat({ model: 'm', messages }).prompt.startsWith(`${first}hello`))
})

test('/v1 takes text and image parts, and refuses what it cannot read', () => {
  const ask = (content: unknown) => readChatCompletion({ model: 'm', messages: [{ role: 'user', content }] })
  const parts = [
    { type: 'text', text: 'look' },
    { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } },
  ]
  assert.equal(ask(parts).images, 1)
  assert.throws(() => ask([{ type: 'video' }]), refusal(400, 'invalid message format'))
  assert.throws(() => ask(null), refusal(400, 'invalid message content type: <nil>'))
  assert.throws(
    () => readChatCompletion({ model: 'm', messages: [] }),
    refusal(400, "[] is too short - 'messages'"),
  )
})

test('keep_alive is a number of seconds or a Go duration, and negative is for ever', () => {
  const given: [unknown, number | null][] = [
    [undefined, null],
    [0, 0],
    ['0', 0],
    ['0s', 0],
    [1.5, 1500],
    ['1h30m', 5_400_000],
    [-1, Number.POSITIVE_INFINITY],
    ['-1m', Number.POSITIVE_INFINITY],
  ]
  for (const [value, ms] of given) assert.equal(keepAliveMs(value), ms)
  assert.throws(() => keepAliveMs('soon'), refusal(400, 'time: invalid duration "soon"'))
})

test('an option of the wrong type is a 500 that names it', () => {
  assert.throws(
    () => fingerprintOf({ num_ctx: 'big' }, true),
    refusal(500, 'option "num_ctx" must be of type integer'),
  )
})

test('a model is found under every spelling of its name, and lists show it as it was given', () => {
  const shelf = new Shelf([aModel({ name: 'MyOrg/Tiny' })], new Date(0))
  for (const name of [
    'myorg/tiny',
    ' MYORG/tiny:latest ',
    'registry.ollama.ai/myorg/tiny',
    'myorg/tiny:local',
  ]) {
    assert.equal(shelf.find(name, 'chat').name, 'MyOrg/Tiny:latest')
  }
  assert.equal(parseName('library/m')?.short, 'm:latest')
  assert.equal(parseName('host:5000/ns/m')?.short, 'host:5000/ns/m:latest')
  for (const bad of ['a b', '-m', 'm:', 'a/b/c/d', 'n.s/m', 'x'.repeat(81)])
    assert.equal(parseName(bad), null)
})

test('each endpoint has its own words for a model that is not there', () => {
  const shelf = new Shelf([], new Date(0))
  const expected: [Wording, string, number, string][] = [
    ['chat', '', 400, 'model is required'],
    ['generate', '', 404, "model '' not found"],
    ['embed', '', 404, "model '' not found"],
    ['embeddings', '', 400, 'model is required'],
    ['chat', 'x', 404, "model 'x' not found"],
    ['generate', 'x', 404, "model 'x' not found"],
    ['embed', 'x', 404, 'model "x" not found, try pulling it first'],
    ['embeddings', 'x', 404, 'model "x" not found, try pulling it first'],
    ['generate', 'a b', 400, 'invalid model name'],
  ]
  for (const [wording, name, status, text] of expected) {
    assert.throws(() => shelf.find(name, wording), refusal(status, text))
  }
})

test('equal definitions have equal digests, which differ by name and size', () => {
  const digest = (name: string, sizeMiB: number) => aModel({ name, sizeMiB }).digest
  assert.match(digest('m', 1), /^[0-9a-f]{64}$/)
  assert.equal(digest('m', 1), digest('m:latest', 1))
  assert.equal(new Set([digest('m', 1), digest('m', 2), digest('n', 1)]).size, 3)
})

test('a loopback node answers local and private hosts and origins only', () => {
  const good = [
    '',
    'localhost:11434',
    '127.0.0.1:1',
    '10.1.2.3',
    '192.168.0.9:80',
    '[::1]:11434',
    'gpu.local',
    'a.INTERNAL',
  ]
  for (const host of good) assert.ok(isLocalHost(host), host)
  for (const host of ['example.com', '8.8.8.8:11434', 'localhost.evil.com', '[2001:db8::1]']) {
    assert.ok(!isLocalHost(host), host)
  }
  for (const origin of [undefined, 'http://localhost:3000', 'app://obsidian.md', 'http://node:11434']) {
    assert.ok(isOriginAllowed({ host: 'node:11434', ...(origin === undefined ? {} : { origin }) }), origin)
  }
  assert.ok(!isOriginAllowed({ origin: 'https://example.com' }))
})

test('strings are escaped as Go escapes them', () => {
  assert.equal(goString('<a> & "b"\u2028'), String.raw`"\u003ca\u003e \u0026 \"b\"\u2028"`)
})
