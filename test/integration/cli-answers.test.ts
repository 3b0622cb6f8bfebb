import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { fakeAdmin, llamero, refusal, start } from '../support/cli.ts'

const refusals: readonly [status: number, exit: number][] = [
  [400, 6],
  [401, 4],
  [403, 4],
  [404, 3],
  [409, 5],
  [422, 6],
  [500, 1],
  [503, 7],
]
for (const [status, exit] of refusals) {
  test(`an answer with status ${status} ends as exit code ${exit}, in the words of the API`, async (t) => {
    const { url } = await fakeAdmin(t, { 'GET /models': refusal(status, 'x', 'because', 'try this') })
    const { code, out, err } = await llamero('model list', { url })
    assert.equal(code, exit)
    assert.equal(out, '')
    assert.equal(err, 'error: because\n  hint: try this\n')
  })
}

test('a refused token says where tokens come from, and without one no header is sent', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'GET /status': refusal(401, 'unauthorized', 'no token') })
  const { err } = await llamero('status', { url, adminToken: () => null })
  assert.match(err, /hint: set LLAMERO_ADMIN_TOKEN/)
  assert.equal(received[0]?.headers.authorization, undefined)
})

test('no admin listener: the URL that was tried, what to start, exit code 7', async () => {
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const url = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`
  closed.close()
  await once(closed, 'close')
  const { code, err } = await llamero(`status --admin-url ${url}/`)
  assert.equal(code, 7)
  assert.equal(
    err,
    `error: cannot reach ${url} (ECONNREFUSED)\n  hint: check that an instance runs there (llamero serve), or set --admin-url\n`,
  )
})

test('an admin listener that never answers is given up after --timeout', { timeout: 10_000 }, async (t) => {
  const asked = Promise.withResolvers<void>()
  const { url } = await fakeAdmin(t, { 'GET /status': () => asked.resolve() })
  const clock = new VirtualClock()
  const { done, stderr } = start('status --timeout 90s', { url, clock })
  await asked.promise
  await clock.advance(89_999)
  assert.equal(stderr.text, '')
  await clock.advance(1)
  assert.equal(await done, 7)
  assert.match(stderr.text, /no answer within 90s/)
})

test('another program on the admin port is reported as such', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /status': (response) => response.end('<html>hello</html>'),
    'GET /nodes': (response) => response.writeHead(302, { location: '/elsewhere' }).end(),
  })
  for (const [line, status] of [
    ['status', 200],
    ['node list', 302],
  ]) {
    const { code, err } = await llamero(String(line), { url })
    assert.equal(code, 1)
    assert.match(err, new RegExp(`answered HTTP ${status} without a llamero document`))
    assert.match(err, /--admin-url/)
  }
})

test('a closed pipe is no error', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /nodes': { body: { nodes: [] } } })
  const gone = new Writable({ write: (_chunk, _encoding, done) => done(new Error('write EPIPE')) })
  assert.equal((await llamero('node list', { url, stdout: gone })).code, 0)
})
