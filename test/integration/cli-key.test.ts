import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fakeAdmin, llamero } from '../support/cli.ts'

test('a new key: its token alone on stdout, everything else on stderr', async (t) => {
  const record = { id: 'ci', token: 'llm_abc', tenant: 'build', scopes: ['inference'], models: ['llama3*'] }
  const { url, received } = await fakeAdmin(t, { 'POST /keys': { status: 201, body: record } })
  const line = 'key create ci --tenant build --scope inference --model llama3* --class batch --expires 24h'
  const { code, out, err } = await llamero(line, { url })
  assert.equal(code, 0)
  assert.equal(out, 'llm_abc\n')
  assert.equal(err, 'ci: created; keep the token, it cannot be shown again\n  hint: llamero key revoke ci\n')
  assert.deepEqual(received[0]?.body, {
    id: 'ci',
    tenant: 'build',
    scopes: ['inference'],
    models: ['llama3*'],
    class: 'batch',
    expires: '2026-01-14T00:00:00.000Z',
  })
  assert.deepEqual(await llamero(`${line} -q`, { url }), { code: 0, out: 'llm_abc\n', err: '' })
  assert.deepEqual(JSON.parse((await llamero('key create ci -o json', { url })).out), record)
  assert.deepEqual(received.at(-1)?.body, { id: 'ci' })
  await llamero('key create ci --expires 2027-01-31', { url })
  assert.deepEqual(received.at(-1)?.body, { id: 'ci', expires: '2027-01-31T00:00:00.000Z' })
})

test('key list shows the permissions of each key; key revoke asks and revokes one', async (t) => {
  const keys = [
    { id: 'ci', tenant: 'build', scopes: ['inference', 'admin'], models: ['*'], expires: null },
    {
      id: 'ui',
      tenant: 'default',
      scopes: ['inference'],
      models: ['llama3*', 'qwen3*'],
      class: 'batch',
      expires: '2027-01-31T00:00:00Z',
    },
  ]
  const { url, received } = await fakeAdmin(t, {
    'GET /keys': { body: { apiVersion: 'llamero/v1', keys } },
    'DELETE /keys/ci': { status: 204 },
  })
  assert.equal(
    (await llamero('key list', { url })).out,
    [
      'ID  TENANT   SCOPES            MODELS           CLASS  EXPIRES',
      'ci  build    inference, admin  *                -      never',
      'ui  default  inference         llama3*, qwen3*  batch  2027-01-31T00:00:00Z',
      '',
    ].join('\n'),
  )
  const { code, err } = await llamero('key revoke ci', { url, typed: 'yes\n' })
  assert.equal(code, 0)
  assert.equal(err, 'Revoke key ci? Its clients are refused at once. [y/N] ci: revoked\n')
  assert.equal(received.at(-1)?.method, 'DELETE')
})

test('key list says which keys have expired (311)', async (t) => {
  const key = { tenant: 'default', scopes: ['inference'], models: ['*'] }
  const keys = ['2026-01-12T23:59:59Z', '2026-01-13T00:00:01Z'].map((expires, n) => ({
    ...key,
    id: `k${n}`,
    expires,
  }))
  const { url } = await fakeAdmin(t, { 'GET /keys': { body: { apiVersion: 'llamero/v1', keys } } })
  const [, past, future] = (await llamero('key list', { url })).out.split('\n')
  assert.match(past ?? '', /2026-01-12T23:59:59Z \(expired\)$/)
  assert.match(future ?? '', /2026-01-13T00:00:01Z$/)
})

test('texts name only commands that exist (311)', async () => {
  const root = join(import.meta.dirname, '../../lib')
  const files = (await readdir(root, { recursive: true })).filter((name) => name.endsWith('.ts'))
  const texts = await Promise.all(files.map((name) => readFile(join(root, name), 'utf8')))
  const named = texts.join('\n').matchAll(/llamero ((?:node|model|route|queue|config|key|instance) [a-z-]+)/g)
  const commands = new Set([...named].map(([, command = '']) => command))
  assert.ok(commands.size > 20, 'they are found')
  for (const command of commands) {
    const { out } = await llamero(`${command} --help`)
    assert.ok(out.startsWith(`Usage: llamero ${command}`), command)
  }
})
