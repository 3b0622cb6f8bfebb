import assert from 'node:assert/strict'
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

test('key list shows what each key may do, key revoke asks and ends one', async (t) => {
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
