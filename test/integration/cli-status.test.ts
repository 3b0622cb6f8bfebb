import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StatusAnswer } from '../../lib/api/status.ts'
import { fakeAdmin, llamero } from '../support/cli.ts'

const noNodes: StatusAnswer['nodes'] = {
  total: 0,
  up: 0,
  slow: 0,
  down: 0,
  cordoned: 0,
  rejected: 0,
  unwell: 0,
  unwell_first: [],
  recovering: [],
  departed: 0,
  departed_first: [],
}

function aStatus(given: Partial<StatusAnswer>): StatusAnswer {
  return {
    cluster: 'prod',
    version: '0.1.0',
    instance: { id: 'proxy-a', role: 'standby', uptime_seconds: 1_036_800, draining: false, cut_off: null },
    source: 'store',
    leader: { id: 'proxy-b', fence: '812' },
    last_leader: null,
    terms: [],
    store: {
      kind: 'etcd',
      ok: true,
      state: 'ok',
      problem: null,
      last_contact_seconds: 0.2,
      remedy: null,
      round_trip_ms: 1.5,
      members: ['e1', 'e2'].map((name) => ({ name, endpoint: `http://${name}:2379`, ok: true })),
    },
    advice: 'leader',
    config: {
      source: 'store',
      suspect: null,
      revision: '840',
      stored: '812',
      active: [
        { id: 'proxy-a', revision: '840' },
        { id: 'proxy-b', revision: '812' },
      ],
      rejected: [],
      rejected_total: 0,
      warned: [],
    },
    nodes: { ...noNodes, total: 5, up: 4, down: 1, cordoned: 1 },
    models: { on_disk: 11, loaded: 7, differing: 0, differing_first: [] },
    instances: 3,
    missing: [],
    requests: { running: 18, queued: 4 },
    warnings: [],
    ...given,
  }
}

test('status names the nodes that departed, since when and why, and how to forget them (310)', async (t) => {
  const since = '2026-07-02T10:00:00.000Z'
  const gone = { name: 'gpu-1', since, reason: 'its agent was stopped', models: ['m:1b', 'n:\u001b[31m2b'] }
  const nodes = { ...noNodes, total: 14, up: 2, departed: 12, departed_first: [gone] }
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({ nodes }) } })
  const { code, out } = await llamero('status', { url })
  assert.equal(code, 0)
  assert.match(out, /^nodes +14: 2 up, 0 down, 0 cordoned, 12 departed$/m)
  assert.deepEqual(out.split('\n').slice(-4, -1), [
    `departed: gpu-1 since ${since}: its agent was stopped; it had m:1b, n:?[31m2b`,
    'departed: 11 more, see llamero node list',
    '  hint: start the agent again, or forget a node: llamero node remove NAME',
  ])
})

test('status names the nodes that requests avoid, since when and why, the first of them', async (t) => {
  const since = '2026-07-02T10:00:00.000Z'
  const unwell_first = [
    {
      name: 'a',
      health: 'down',
      breaker: 'open',
      frozen: false,
      since,
      reason: '3 probes in a row: \u001b[31mECONNREFUSED',
    },
    {
      name: 'b',
      health: 'slow',
      breaker: 'closed',
      frozen: true,
      since,
      reason: '3 probes in a row: no answer',
    },
    { name: 'c', health: 'up', breaker: 'open', frozen: false, since, reason: 'its probes are answered' },
    { name: 'd', health: 'up', breaker: 'half-open', frozen: true, since, reason: 'its probes are answered' },
  ] as const
  const nodes = { ...noNodes, total: 9, up: 4, slow: 1, down: 4, rejected: 2, unwell: 7, unwell_first }
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({ nodes }) } })
  const { code, out } = await llamero('status', { url })
  assert.equal(code, 0)
  assert.match(out, /^nodes +9: 4 up, 1 slow, 4 down, 0 cordoned, 2 documents rejected$/m)
  assert.deepEqual(out.split('\n').slice(-7, -1), [
    `down: a (breaker open) since ${since}: 3 probes in a row: ?[31mECONNREFUSED`,
    `slow: b (frozen) since ${since}: 3 probes in a row: no answer`,
    'breaker open: c: requests of this instance failed there',
    'frozen: d (breaker half-open): it accepts connections and answers nothing',
    'down, slow or frozen: 3 more, see llamero node list',
    '  hint: check whether the machine of the frozen node, or Ollama there, hangs',
  ])
})

test('status tells a healthy node that the next request tests, and not as a fault', async (t) => {
  const nodes = { ...noNodes, total: 2, up: 2, recovering: ['gpu-1'] }
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({ nodes }) } })
  const { out, err } = await llamero('status', { url })
  assert.equal(err, '')
  assert.match(out, /\nrecovering: gpu-1 is healthy again; the next request that needs it tests it\n$/)
})

test('status counts the rejected documents that it does not list', async (t) => {
  const errors = [{ path: '', line: null, message: 'is empty' }]
  const rejected = [{ key: '/llamero/prod/nodes/a', errors }]
  const config = { ...aStatus({}).config, rejected, rejected_total: 7 }
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({ config }) } })
  const { out } = await llamero('status', { url })
  assert.match(out, /^config .*, 7 documents rejected$/m)
  assert.match(out, /\nrejected: \/llamero\/prod\/nodes\/a\n {2}is empty\nrejected: 6 more documents\n$/)
})

test('status shows slow nodes, and an instance that is cut off while another one is not (302, 303)', async (t) => {
  const instance = { ...aStatus({}).instance, cut_off: 'proxy-b' }
  const nodes = { ...noNodes, total: 3, up: 1, slow: 2 }
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({ nodes, instance }) } })
  const { out } = await llamero('status', { url })
  assert.match(out, /^nodes +3: 1 up, 2 slow, 0 down, 0 cordoned$/m)
  assert.match(out, /^instance +proxy-a, standby, up .*; CUT OFF: it reaches no node, proxy-b does$/m)
})

test('status shows the cluster on one screen', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({}) } })
  const { code, out, err } = await llamero('status', { url })
  assert.equal(code, 0)
  assert.equal(err, '')
  assert.equal(
    out,
    [
      'cluster   prod, 3 instances, llamero 0.1.0',
      'instance  proxy-a, standby, up 12d',
      'leader    proxy-b, fence 812',
      'store     ok, etcd, 2/2 members, round trip 1.5 ms',
      'config    revision 840, last change 812, seen by 2/2, 0 documents rejected',
      'nodes     5: 4 up, 1 down, 1 cordoned',
      'models    11 on disk, 7 loaded',
      'requests  18 running, 4 queued',
      '',
    ].join('\n'),
  )
})

test('status names the first models with differing copies', async (t) => {
  const differing_first = [{ name: 'llama3:8b\u001b', older_on: ['gpu-a', 'gpu-b'] }]
  const models = { on_disk: 11, loaded: 7, differing: 3, differing_first }
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({ models }) } })
  assert.match(
    (await llamero('status', { url })).out,
    /^differs: llama3:8b\?, older on gpu-a, gpu-b\ndiffers: 2 more, see llamero model list\n$/m,
  )
})

test('status -o wide shows the last terms of leaders, and why they ended', async (t) => {
  const terms = [
    { fence: '812', instance: 'proxy-b', since: '2026-11-23T02:00:00Z', until: null, why: null },
    {
      fence: '7',
      instance: 'proxy-a',
      since: '2026-11-20T00:00:00Z',
      until: '2026-11-23T02:00:00Z',
      why: 'it handed leadership over',
    },
  ]
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({ terms }) } })
  assert.match(
    (await llamero('status -o wide', { url })).out,
    /^terms {5}proxy-b since 2026-11-23T02:00:00Z; proxy-a since 2026-11-20T00:00:00Z until 2026-11-23T02:00:00Z \(it handed leadership over\)$/m,
  )
})

test('status names each fault: store, leader, rejected documents with line and hint', async (t) => {
  const body = aStatus({
    source: 'memory',
    leader: null,
    last_leader: { id: 'proxy-b', fence: '812' },
    store: {
      ...aStatus({}).store,
      ok: false,
      state: 'unreachable',
      remedy: 'check etcd: etcdctl endpoint health',
      last_contact_seconds: 42,
      round_trip_ms: null,
      members: [],
    },
    config: {
      ...aStatus({}).config,
      stored: '1000',
      active: [
        { id: 'proxy-a', revision: '840' },
        { id: 'proxy-b', revision: '1001' },
      ],
      rejected: [
        {
          key: '/llamero/prod/routes/chat',
          errors: [
            { path: 'fallbak', line: 4, message: 'is not a known field', hint: 'did you mean "fallback"?' },
          ],
        },
      ],
      rejected_total: 1,
    },
    nodes: noNodes,
  })
  const { url } = await fakeAdmin(t, { 'GET /status': { body } })
  const { code, out, err } = await llamero('status', { url })
  assert.equal(code, 0)
  assert.match(err, /^warning: the store does not answer.*\n {2}hint: check etcd: etcdctl endpoint health$/m)
  assert.match(out, /^cluster {3}prod, 3 instances \(last known, 42s ago\), llamero 0\.1\.0$/m)
  assert.match(out, /^leader {4}unknown; last was proxy-b, fence 812 \(last known, 42s ago\)$/m)
  assert.match(out, /^store {5}DOWN for 42s, serving from memory \(config revision 840\)$/m)
  assert.match(
    out,
    /^config {4}revision 840, last change 1000, seen by 1\/2 \(proxy-a at 840\) as last known, 1 document rejected$/m,
  )
  assert.ok(
    out.endsWith(
      'rejected: /llamero/prod/routes/chat\n  line 4: fallbak: is not a known field (did you mean "fallback"?)\n',
    ),
    out,
  )
  assert.match(err, /hint: llamero node add NAME/)
})

test('status names the member of the store that does not answer', async (t) => {
  const members = [
    { name: 'e1', endpoint: 'http://e1:2379', ok: true },
    { name: '', endpoint: 'http://e2:2379', ok: false },
  ]
  const store = { ...aStatus({}).store, round_trip_ms: 2, members }
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({ store }) } })
  const { out } = await llamero('status', { url })
  assert.match(out, /^store {5}ok, etcd, 1\/2 members, round trip 2 ms, down: http:\/\/e2:2379$/m)
})

test('status says when an instance uses its snapshot on disk and its own probes, and how to accept a suspect store', async (t) => {
  const config = { ...aStatus({}).config, source: 'snapshot' as const, suspect: 'all nodes are gone' }
  const body = aStatus({ config, advice: 'own' })
  const { url } = await fakeAdmin(t, { 'GET /status': { body } })
  const { code, out, err } = await llamero('status', { url })
  assert.equal(code, 0)
  assert.match(out, /^config {4}stale: snapshot on this instance's disk, revision 840, /m)
  assert.match(out, /^nodes {5}5: 4 up, 1 down, 1 cordoned; as probed by this instance$/m)
  assert.match(err, /not put in force: all nodes are gone\n {2}hint: .*llamero config accept/)
  assert.deepEqual(JSON.parse((await llamero('status -o json', { url })).out), body)
})

test('status prints the warnings of the instance (342)', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /status': { body: aStatus({ warnings: ['keys \u001b[1mexist'] }) },
  })
  const { code, err } = await llamero('status', { url })
  assert.deepEqual([code, err], [0, 'warning: keys ?[1mexist\n'])
})

test('status prints the warnings of verdicts (331, 332)', async (t) => {
  const { config } = aStatus({})
  const warned = [{ key: '/llamero/default/routes/chat', warnings: ['no node has model "x"'] }]
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({ config: { ...config, warned } }) } })
  const { out } = await llamero('status', { url })
  assert.match(out, /\nwarned: \/llamero\/default\/routes\/chat\n {2}no node has model "x"\n$/)
})
