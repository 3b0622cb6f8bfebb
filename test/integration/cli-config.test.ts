import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parse } from 'yaml'
import type { ConfigAnswer } from '../../lib/api/config.ts'
import { fakeAdmin, llamero, refusal } from '../support/cli.ts'

const stored = 'queue:\n  max_wait: 30s # short\n'
const config: ConfigAnswer = {
  effective: { queue: { max_length: 1000, max_wait: '30s' }, headers: { node: true } },
  text: stored,
  modified: '812',
  ok: true,
  errors: [],
  warnings: [],
  unknown_keys: [],
}
const absent: ConfigAnswer = { ...config, text: null, modified: null }

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'llamero-test-'))
})
after(() => rm(folder, { recursive: true }))

async function aFile(text: string, name = 'file.yaml'): Promise<string> {
  const file = join(folder, name)
  await writeFile(file, text)
  return file
}

test('config get shows what is in force, one field of it, or the stored text', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /config': { body: config } })
  const whole = await llamero('config get', { url })
  assert.deepEqual([whole.code, parse(whole.out)], [0, config.effective])
  assert.equal((await llamero('config get queue.max_wait', { url })).out, '30s\n')
  assert.equal((await llamero('config get queue.max_wait -o json', { url })).out, '"30s"\n')
  assert.deepEqual(JSON.parse((await llamero('config get -o json', { url })).out), config.effective)
  assert.equal((await llamero('config get --stored', { url })).out, stored)
  assert.deepEqual(await llamero('config show', { url }), whole)
})

test('config set of an invalid value says where to find examples', async (t) => {
  const reason = 'auth.hosts: must be a list, such as [name], not the text "name"'
  const { url } = await fakeAdmin(t, { 'PATCH /config': refusal(422, 'invalid', reason) })
  const { code, err } = await llamero('config set auth.hosts=name', { url })
  assert.deepEqual(
    [code, err],
    [6, `error: ${reason}\n  hint: examples of lists, maps and text: llamero config set --help\n`],
  )
  assert.match((await llamero('config set --help')).out, /llamero config set 'auth\.hosts=\[/)
})

test('config get of an unknown field is exit code 3 and suggests a similar one', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /config': { body: config } })
  const typo = await llamero('config get queue.max_wiat', { url })
  assert.deepEqual(
    [typo.code, typo.err],
    [3, 'error: the config has no field "queue.max_wiat"\n  hint: did you mean "max_wait"?\n'],
  )
  assert.equal((await llamero('config get queue.max_wait.x', { url })).code, 3)
  assert.equal((await llamero('config get constructor', { url })).code, 3)
})

test('config get warns of keys in the store that no instance reads', async (t) => {
  const errors = [
    { path: '', line: null, message: 'is not a key that llamero reads', hint: 'did you mean "config"?' },
  ]
  const unknown_keys = [{ key: '/llamero/prod/confg\u001b', errors }]
  const { url } = await fakeAdmin(t, { 'GET /config': { body: { ...config, unknown_keys } } })
  assert.equal(
    (await llamero('config get', { url })).err,
    'warning: /llamero/prod/confg? is not a key that llamero reads (did you mean "config"?)\n',
  )
})

test('config get says when the stored text is not in force', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /config': { body: { ...config, ok: false } } })
  assert.match((await llamero('config get', { url })).err, /rejected; the last good one stays in force/)
})

test('config set sends values as YAML and shows the difference', async (t) => {
  const body = { before: stored, text: stored.replace('30s', '60s'), modified: '900' }
  const { url, received } = await fakeAdmin(t, {
    'PATCH /config': { body },
    'PATCH /config?dry_run=true': { body: { ...body, modified: '812' } },
  })
  const line = 'config set queue.max_wait=60s queue.max_length=5 headers.node=false probes.rise='
  const { code, out, err } = await llamero(line, { url })
  assert.deepEqual([code, err], [0, 'config: written, revision 900\n'])
  assert.deepEqual(received[0]?.body, {
    queue: { max_wait: '60s', max_length: 5 },
    headers: { node: false },
    probes: { rise: null },
  })
  assert.match(out, /^--- config \(stored\)\n\+\+\+ config \(new\)\n@@ /)
  assert.match(out, /\n- {2}max_wait: 30s # short\n\+ {2}max_wait: 60s # short\n/)
  const dry = await llamero(`${line} --dry-run`, { url })
  assert.deepEqual([dry.code, dry.out, dry.err], [0, out, 'nothing was written\n'])
  assert.equal(received[1]?.path, '/config?dry_run=true')
  assert.ok((await llamero(line, { url, colour: true })).out.includes('\u001b[32m+  max_wait'))
})

test('config set: a wrong line is a usage error, a wrong value invalid, a lost race a conflict', async (t) => {
  const refused = await fakeAdmin(t, { 'PATCH /config': refusal(422, 'invalid', 'queue.max_wait: no') })
  assert.equal((await llamero('config set queue.max_wait', { url: refused.url })).code, 2)
  assert.equal((await llamero('config set queue.max_wait=[', { url: refused.url })).code, 2)
  assert.equal((await llamero('config set __proto__.x=1 queue.max_wait=1', { url: refused.url })).code, 6)
  assert.deepEqual(Object.keys(refused.received[0]?.body ?? {}), ['__proto__', 'queue'])
  const raced = await fakeAdmin(t, { 'PATCH /config': refusal(409, 'conflict', 'changed meanwhile') })
  assert.equal((await llamero('config set queue.max_length=1', { url: raced.url })).code, 5)
})

test('config validate needs no server and names line, field and hint of every fault', async () => {
  const good = await aFile(stored)
  assert.deepEqual(await llamero(`config validate ${good}`), { code: 0, out: '', err: `${good}: valid\n` })
  const bad = await aFile('queue:\n  max_wiat: 30s\n  max_length: -1\n', 'bad.yaml')
  const { code, err } = await llamero(`config validate ${bad}`)
  assert.equal(code, 6)
  assert.ok(
    err.includes(`${bad}:2: queue.max_wiat: is not a known field\n  hint: did you mean "max_wait"?\n`),
    err,
  )
  assert.match(err, /bad\.yaml:3: queue\.max_length: /)
  assert.match(err, /error: .*bad\.yaml is not valid\n$/)
  assert.equal((await llamero('config validate -', { typed: 'queue: {}\n' })).code, 0)
  assert.equal((await llamero('config validate /nowhere')).code, 2)
})

test('config validate checks routes and nodes as well', async () => {
  const file = await aFile('url: http://gpu-a:11434\n')
  assert.equal((await llamero(`config validate ${file} --node gpu-a`)).code, 0)
  assert.equal((await llamero(`config validate ${file} --route chat`)).code, 6)
  assert.equal((await llamero(`config validate ${file} --route chat --node gpu-a`)).code, 2)
})

test('config diff has the exit codes of diff: 0 same, 1 different, more on an error', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /config': { body: config },
    'GET /routes/chat': { body: { text: 'model: a\n', modified: '5', ok: true, errors: [] } },
    'GET /routes/broken': refusal(500, 'internal', 'oops'),
  })
  const same = await llamero(`config diff ${await aFile(stored)}`, { url })
  assert.deepEqual(same, { code: 0, out: '', err: '' })
  const other = await aFile('queue: {}\n')
  const differs = await llamero(`config diff ${other}`, { url })
  assert.deepEqual([differs.code, differs.err], [1, ''])
  assert.match(differs.out, /^--- config \(stored\)\n\+\+\+ config \(new\)\n/)
  assert.match((await llamero(`config diff ${other} --route chat`, { url })).out, /--- route chat \(stored\)/)
  assert.equal((await llamero(`config diff ${other} --route new`, { url })).code, 1)
  assert.equal((await llamero(`config diff ${other} --route broken`, { url })).code, 2)
  assert.equal((await llamero('config diff /nowhere', { url })).code, 2)
  assert.equal((await llamero(`config diff ${other}`)).code, 7)
})

test('config apply replaces only the version it has read, and writes nothing without a difference', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /config': { body: config },
    'PUT /config': { body: {} },
  })
  const text = 'queue:\n  max_wait: 90s\n'
  const file = await aFile(text)
  const dry = await llamero(`config apply -f ${file} --dry-run`, { url })
  assert.deepEqual([dry.code, dry.err], [0, 'nothing was written\n'])
  const { code, out, err } = await llamero(`config apply -f ${file}`, { url })
  assert.deepEqual([code, err, out], [0, 'config: written\n', dry.out])
  const puts = received.filter(({ method }) => method === 'PUT')
  assert.deepEqual([puts.length, puts[0]?.body, puts[0]?.headers['if-match']], [1, { text }, '"812"'])
  const same = await llamero('config apply -f -', { url, typed: stored })
  assert.deepEqual([same.code, same.err], [0, 'config: unchanged\n'])
})

test('config apply creates missing documents, also routes and nodes', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /config': { body: absent },
    'PUT /config': { body: {} },
    'PUT /routes/chat': { body: {} },
    'PUT /nodes/gpu-a': { body: {} },
  })
  const file = await aFile('queue: {}\n')
  assert.equal((await llamero(`config apply -f ${file}`, { url })).code, 0)
  assert.equal((await llamero('config apply -f - --route chat', { url, typed: 'model: a\n' })).code, 0)
  const node = await llamero('config apply -f - --node gpu-a', { url, typed: 'url: http://a:1\n' })
  assert.deepEqual([node.code, node.out, node.err], [0, '', 'node gpu-a: written\n'])
  const puts = received.filter(({ method }) => method === 'PUT')
  assert.deepEqual(
    puts.map(({ headers }) => headers['if-none-match']),
    ['*', '*', undefined],
  )
})

test('config apply asks no server about an invalid file, and a lost race is a conflict', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /config': { body: config },
    'PUT /config': refusal(409, 'conflict', 'somebody else changed it meanwhile; look and try again'),
  })
  assert.equal((await llamero('config apply -f -', { url, typed: 'queue: 5\n' })).code, 6)
  assert.equal(received.length, 0)
  assert.equal((await llamero('config apply -f -', { url, typed: 'queue: {}\n' })).code, 5)
  assert.equal((await llamero('config apply', { url })).code, 2)
})

test('config accept shows why the store is suspect in its question, and says when it is not', async (t) => {
  const doubtful = await fakeAdmin(t, {
    'GET /status': { body: { config: { suspect: 'all nodes are gone' } } },
    'POST /config/accept': { body: {} },
  })
  const { code, err } = await llamero('config accept', { url: doubtful.url, typed: 'y\n' })
  assert.equal(code, 0)
  assert.match(
    err,
    /^all nodes are gone\. Put its documents in force\? \[y\/N\] the documents of the store are in force/,
  )
  assert.equal((await llamero('config accept', { url: doubtful.url })).code, 2)
  const believed = await fakeAdmin(t, {
    'POST /config/accept': refusal(409, 'conflict', 'nothing to accept'),
  })
  assert.equal((await llamero('config accept -y', { url: believed.url })).code, 5)
})
