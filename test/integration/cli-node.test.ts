import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parse } from 'yaml'
import { aNode, fakeAdmin, llamero, refusal, token } from '../support/cli.ts'

const nodes = {
  apiVersion: 'llamero/v1',
  nodes: [
    aNode({
      name: 'gpu-a',
      running: 3,
      loaded: ['qwen3:32b', 'nomic-embed-text:latest'],
      labels: { zone: 'a' },
    }),
    aNode({ name: 'gpu-b', state: 'cordoned', breaker: 'half-open', weight: 0.5 }),
    aNode({ name: 'gpu-c', health: 'down', reason: 'connect ECONNREFUSED', since: null, version: '' }),
  ],
}

test('node list piped is an aligned table with its header, uncut and without colour', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /nodes': { body: nodes } })
  const { code, out, err } = await llamero('node list', { url })
  assert.equal(code, 0)
  assert.equal(err, '')
  assert.equal(
    out,
    [
      'NAME   STATE     HEALTH                  RUNNING  WEIGHT  LOADED                              VERSION  SINCE  REASON',
      'gpu-a  active    up                            3       1  qwen3:32b, nomic-embed-text:latest  0.15.0   12d    -',
      'gpu-b  cordoned  up (breaker half-open)        0     0.5  -                                   0.15.0   12d    -',
      'gpu-c  active    down                          0       1  -                                   -        -      connect ECONNREFUSED',
      '',
    ].join('\n'),
  )
  const wide = await llamero('node ls -o wide', { url })
  assert.match(wide.out, /http:\/\/gpu-a:11434 +operator +zone=a/)
  assert.match(wide.out, /connect ECONNREFUSED/)
})

test('node list without a fault has no reasons', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /nodes': { body: { nodes: nodes.nodes.slice(0, 2) } } })
  assert.doesNotMatch((await llamero('node list', { url })).out, /REASON/)
  assert.match((await llamero('node list -o wide', { url })).out, /REASON/)
})

test('node list and show mark a document that is rejected, with its faults', async (t) => {
  const rejected = [
    { path: 'weight', line: 2, message: 'must be a number, such as 1, not the text "x\u001b"' },
  ]
  const fault = 'line 2: weight: must be a number, such as 1, not the text "x?"'
  const changed = aNode({ name: 'changed', rejected })
  const never = aNode({ name: 'never', state: 'rejected', health: 'unknown', reason: 'not valid', rejected })
  const { url } = await fakeAdmin(t, {
    'GET /nodes': { body: { nodes: [aNode({ name: 'well', rejected: [] }), changed, never] } },
    'GET /nodes/changed': { body: changed },
  })
  const lines = (await llamero('node list', { url })).out.split('\n')
  assert.match(lines[1] ?? '', /^well +active +up .* -$/)
  assert.match(lines[2] ?? '', /^changed +active \(change rejected\) +up /)
  assert.match(lines[3] ?? '', /^never +rejected +unknown /)
  for (const line of lines.slice(2, 4)) assert.ok(line.endsWith(`document rejected: ${fault}`), line)
  const { out } = await llamero('node show changed', { url })
  assert.match(out, /^state +active \(change rejected\)$/m)
  assert.ok(out.includes(`document rejected: ${fault}\n`), out)
})

test('colour needs the context to allow it, and --no-color takes it away', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /nodes': { body: nodes } })
  assert.ok((await llamero('node list', { url, colour: true })).out.includes('\u001b[31mdown'))
  assert.ok(!(await llamero('node list --no-color', { url, colour: true })).out.includes('\u001b'))
})

test('-o json prints the API document itself, and -o yaml the same document', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /nodes': { body: nodes },
    'GET /nodes/gpu-a': { body: nodes.nodes[0] },
  })
  assert.deepEqual(JSON.parse((await llamero('node list -o json', { url })).out), nodes)
  assert.deepEqual(parse((await llamero('node list -o yaml', { url })).out), nodes)
  assert.deepEqual(JSON.parse((await llamero('node show gpu-a -o json', { url })).out), nodes.nodes[0])
})

test('an empty node list names the command that adds a node', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /nodes': { body: { nodes: [] } } })
  const { code, err } = await llamero('node list', { url })
  assert.equal(code, 0)
  assert.equal(err, 'no nodes yet\n  hint: llamero node add NAME http://HOST:11434\n')
})

test('node show prints the details of one node', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /nodes/gpu-a': {
      body: aNode({ name: 'gpu-a', running: 3, running_by_instance: { a: 2, b: 1 }, vram_bytes: 24e9 }),
    },
  })
  const { out } = await llamero('node show gpu-a', { url })
  assert.match(out, /^name {5}gpu-a$/m)
  assert.match(out, /^running {2}3 \(a=2,b=1\)$/m)
  assert.match(out, /^since {4}12d \(2026-01-01T00:00:00Z\)$/m)
  assert.match(out, /^vram {5}24 GB$/m)
  assert.match(out, /^labels {3}-$/m)
})

test('node add creates, never overwrites, and names the next command', async (t) => {
  const spec = {
    url: 'http://gpu-d:11434',
    weight: 2,
    slots: 4,
    keep_alive: '30m',
    state: 'cordoned',
    labels: { zone: 'a', gpu: 'h100' },
  }
  const { url, received } = await fakeAdmin(t, { 'PUT /nodes/gpu-d': { status: 201, body: spec } })
  const line =
    'node add gpu-d http://gpu-d:11434/ --weight 2 --slots 4 --keep-alive 30m --state cordoned --label zone=a --label gpu=h100'
  const { code, out, err } = await llamero(line, { url })
  assert.equal(code, 0)
  assert.equal(out, '')
  assert.equal(err, 'gpu-d: added\n  hint: llamero node show gpu-d\n')
  assert.deepEqual(received[0]?.body, spec)
  const bare = await llamero('node add gpu-d http://gpu-d', { url })
  assert.match(
    bare.err,
    /^gpu-d: added with port 80, .*11434\n {2}hint: llamero node set gpu-d url=http:\/\/gpu-d:11434\n$/,
  )
  assert.match((await llamero('node add gpu-d http://gpu-d:80', { url })).err, /^gpu-d: added\n/)
  assert.equal(received[0]?.headers['if-none-match'], '*')
  assert.equal(received[0]?.headers.authorization, `Bearer ${token}`)
  assert.deepEqual(JSON.parse((await llamero(`${line} -o json`, { url })).out), spec)
})

test('node add sends only the fields that were given', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'PUT /nodes/gpu-d': { status: 201, body: {} } })
  await llamero('node add gpu-d https://gpu-d', { url })
  assert.deepEqual(received[0]?.body, { url: 'https://gpu-d' })
})

test('node add of an existing name is a conflict, or with --if-not-exists a success without a change', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'PUT /nodes/gpu-a': refusal(409, 'conflict', 'node "gpu-a" exists already', 'llamero node set gpu-a'),
    'GET /nodes/gpu-a': { body: nodes.nodes[0] },
  })
  const taken = await llamero('node add gpu-a http://gpu-a:11434', { url })
  assert.equal(taken.code, 5)
  assert.equal(taken.err, 'error: node "gpu-a" exists already\n  hint: llamero node set gpu-a\n')

  const same = await llamero('node add gpu-a http://gpu-a:11434 --if-not-exists', { url })
  assert.equal(same.code, 0)
  assert.equal(same.err, 'gpu-a: exists already, left unchanged\n')

  const moved = await llamero('node add gpu-a http://elsewhere:11434 --if-not-exists', { url })
  assert.equal(moved.code, 0)
  assert.match(moved.err, /exists already with http:\/\/gpu-a:11434, left unchanged/)
  assert.match(moved.err, /hint: llamero node set gpu-a url=http:\/\/elsewhere:11434/)
  assert.ok(received.every(({ headers, method }) => method === 'GET' || headers['if-none-match'] === '*'))
})

test('a URL that another node has is a conflict, with --if-not-exists too (156)', async (t) => {
  const { url } = await fakeAdmin(t, {
    'PUT /nodes/gpu-x': refusal(409, 'conflict', 'http://gpu-a:11434 is node "gpu-a" already'),
  })
  for (const flag of ['', ' --if-not-exists']) {
    const { code, err } = await llamero(`node add gpu-x http://gpu-a:11434${flag}`, { url })
    assert.equal(code, 5)
    assert.equal(err, 'error: http://gpu-a:11434 is node "gpu-a" already\n')
  }
})

test('node set, cordon and uncordon send only the named fields', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'PATCH /nodes/gpu-a': { body: {} } })
  const set = await llamero('node set gpu-a weight=2 slots= url=http://h:1/ labels.zone=b labels.old=', {
    url,
  })
  const cordon = await llamero('node cordon gpu-a', { url })
  const uncordon = await llamero('node uncordon gpu-a', { url })
  assert.deepEqual([set.code, cordon.code, uncordon.code], [0, 0, 0])
  assert.deepEqual(
    received.map(({ body }) => body),
    [
      { weight: 2, slots: null, url: 'http://h:1', labels: { zone: 'b', old: null } },
      { state: 'cordoned' },
      { state: 'active' },
    ],
  )
  assert.equal(
    set.err + cordon.err + uncordon.err,
    'gpu-a: changed\ngpu-a: cordoned\ngpu-a: takes requests again\n',
  )
})

test('node remove asks on a terminal, and only yes is yes', async (t) => {
  const busy = aNode({ name: 'gpu-b', running: 2 })
  const { url, received } = await fakeAdmin(t, {
    'GET /nodes/gpu-b': { body: busy },
    'DELETE /nodes/gpu-b': { status: 204 },
  })
  const deleted = () => received.filter(({ method }) => method === 'DELETE').length
  for (const typed of ['n\n', '\n', '']) {
    const { code, err } = await llamero('node remove gpu-b', { url, typed })
    assert.equal(code, 1)
    assert.match(err, /^Remove node gpu-b \(http:\/\/gpu-b:11434\), which runs 2 requests\? \[y\/N\] /)
    assert.match(err, /nothing was changed/)
  }
  assert.equal(deleted(), 0)
  assert.equal((await llamero('node remove gpu-b', { url, typed: 'y\n' })).code, 0)
  assert.equal(deleted(), 1)
  const unasked = await llamero('node rm gpu-b -y', { url })
  assert.equal(unasked.err, 'gpu-b: removed\n')
  assert.equal(deleted(), 2)
})

test('an unknown name is exit code 3 and suggests a similar one', async (t) => {
  const missing = refusal(404, 'not_found', 'no node named "gpu-q"')
  const { url } = await fakeAdmin(t, {
    'GET /nodes': { body: nodes },
    'GET /nodes/gpu-q': missing,
    'PATCH /nodes/gpu-q': missing,
    'DELETE /nodes/gpu-q': missing,
    'GET /keys': { body: { keys: [{ id: 'open-webui' }] } },
    'DELETE /keys/openwebui': refusal(404, 'not_found', 'no key named "openwebui"'),
  })
  for (const verb of ['show gpu-q', 'cordon gpu-q', 'drain gpu-q', 'remove gpu-q -y']) {
    const { code, err } = await llamero(`node ${verb}`, { url })
    assert.equal(code, 3)
    assert.equal(err, 'error: no node named "gpu-q"\n  hint: did you mean "gpu-a"?\n')
  }
  const { code, err } = await llamero('key revoke openwebui -y', { url })
  assert.equal(code, 3)
  assert.match(err, /hint: did you mean "open-webui"\?/)
})
