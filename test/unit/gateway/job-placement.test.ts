import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { JobAction } from '../../../lib/fleet/job.ts'
import type { NodeChoice } from '../../../lib/fleet/node-choice.ts'
import { buildSnapshot } from '../../../lib/fleet/snapshot.ts'
import { placeJob } from '../../../lib/gateway/jobs/job-placement.ts'
import { type JobFields, readJobRequest } from '../../../lib/gateway/jobs/job-request.ts'
import { aDocuments, aSnapshot } from '../../support/fleet.ts'

/** The disk of `a` is the fullest; `d` takes no new requests. */
const nodes = [
  { name: 'a', models: ['old:latest', 'both:latest', 'x:1'], loaded: ['both:latest'] },
  { name: 'b', models: ['both:latest'], labels: { zone: 'west' } },
  { name: 'c', models: [], labels: { zone: 'west', big: 'yes' } },
  { name: 'd', models: ['both:latest'], health: 'down' as const },
  { name: 'e', models: ['kept:latest'], state: 'cordoned' as const },
  { name: 'f', models: ['old:latest'], state: 'off' as const },
]

function placed(
  action: JobAction,
  fields: JobFields,
  { wish = {}, management = {} }: { wish?: NodeChoice; management?: object } = {},
  having?: ReadonlySet<string>,
) {
  const { nodes: chosen, spares } = placeJob(
    readJobRequest(action, fields, wish),
    aSnapshot({ nodes, config: { management } }),
    having,
  )
  return { nodes: chosen.join(' '), spares: spares.join(' ') }
}

suite('a new model goes', () => {
  const model = 'new'
  test('to the node with the most free disk; the others are spares in that order', () => {
    assert.deepEqual(placed('pull', { model }), { nodes: 'c', spares: 'b a' })
  })

  test('to as many nodes as the policy says, if there are as many', () => {
    assert.equal(placed('pull', { model }, { management: { copies: 2 } }).nodes, 'c b')
    assert.equal(placed('pull', { model }, { management: { copies: 9 } }).nodes, 'c b a')
    assert.equal(placed('pull', { model }, { management: { copies: 'all' } }).nodes, 'c b a')
  })

  test('to nodes with the labels of the policy, and of the caller', () => {
    assert.deepEqual(placed('pull', { model }, { management: { nodes: { zone: 'west' } } }), {
      nodes: 'c',
      spares: 'b',
    })
    assert.deepEqual(placed('pull', { model }, { wish: { labels: { zone: 'west' }, copies: 'all' } }), {
      nodes: 'c b',
      spares: '',
    })
    assert.throws(() => placed('pull', { model }, { wish: { labels: { zone: 'east' } } }), {
      code: 'no_place',
      status: 503,
    })
  })

  test('to exactly as many nodes as the caller wants, or is refused', () => {
    assert.equal(placed('pull', { model }, { wish: { copies: 2 } }).nodes, 'c b')
    assert.throws(
      () => placed('pull', { model }, { wish: { copies: 4 } }),
      /4 copies are requested, and 3 servers could/,
    )
  })

  test('to the nodes that are named, each once', () => {
    const wish = { nodes: ['a', 'b', 'a'] }
    assert.deepEqual(placed('pull', { model }, { wish }), { nodes: 'a b', spares: '' })
  })

  for (const [name, fault] of [
    ['e', /node e is cordoned/],
    ['f', /node f is off/],
    ['z', /there is no node named "z"/],
  ] as const) {
    test(`not to ${name} when that is named, with the reason`, () => {
      assert.throws(() => placed('pull', { model }, { wish: { nodes: ['a', name] } }), fault)
    })
  }
})

test('a job that names a node goes there even when its health is down (301)', () => {
  assert.equal(placed('pull', { model: 'new' }, { wish: { nodes: ['d'] } }).nodes, 'd')
})

test('a job goes to nodes that are down only when no other could do it (301)', () => {
  const zone = { labels: { zone: 'w' } }
  const well = [
    { name: 'a', ...zone },
    { name: 'd', health: 'down' as const },
  ]
  const ask = readJobRequest('pull', { model: 'new' }, { copies: 'all' })
  assert.deepEqual(placeJob(ask, aSnapshot({ nodes: well })).nodes, ['a'])
  const down = well.map((node) => ({ ...node, health: 'down' as const }))
  assert.deepEqual(placeJob(ask, aSnapshot({ nodes: down })).nodes, ['a', 'd'])
})

suite('a model that is there', () => {
  test('is pulled again on all its nodes, so that copies stay equal', () => {
    assert.deepEqual(placed('pull', { model: 'BOTH' }), { nodes: 'a b', spares: 'c' })
    assert.equal(placed('pull', { model: 'both' }, { wish: { copies: 1 } }).nodes, 'a b')
    assert.equal(placed('pull', { model: 'both' }, { wish: { copies: 3 } }).nodes, 'a b c')
  })

  test('on an unreachable node only is pulled to another', () => {
    assert.equal(placed('pull', { model: 'kept' }).nodes, 'c')
  })

  test('is deleted and copied on all its nodes, except those that are off', () => {
    assert.equal(placed('delete', { model: 'both' }).nodes, 'a b d')
    assert.equal(placed('copy', { source: 'old', destination: 'new' }).nodes, 'a')
    assert.equal(placed('delete', { model: 'kept' }).nodes, 'e')
    assert.equal(placed('delete', { model: 'both' }, { wish: { nodes: ['b'] } }).nodes, 'b')
    assert.throws(() => placed('delete', { model: 'both' }, { wish: { nodes: ['c'] } }), /does not have/)
  })

  test('is unloaded where it is in memory, on cordoned nodes too, and not waited for on nodes that are down (367)', () => {
    const loaded = ['both:latest']
    const all = [
      { name: 'up', models: loaded, loaded },
      { name: 'cordoned', models: loaded, loaded, state: 'cordoned' as const },
      { name: 'down', models: loaded, loaded, health: 'down' as const },
    ]
    const on = (nodes: typeof all) =>
      placeJob(readJobRequest('unload', { model: 'both' }, {}), aSnapshot({ nodes })).nodes
    assert.deepEqual(on(all), ['cordoned', 'up'])
    assert.deepEqual(on(all.slice(2)), ['down'], 'where no other has it')
  })

  test('is the base of another on its nodes, pushed by one of them, loaded where it is loaded', () => {
    assert.equal(placed('create', { model: 'new', from: 'both' }).nodes, 'a b')
    assert.deepEqual(placed('push', { model: 'both' }), { nodes: 'a', spares: 'b' })
    assert.deepEqual(placed('load', { model: 'both' }), { nodes: 'a', spares: 'b' })
    assert.equal(placed('unload', { model: 'both' }).nodes, 'a')
    assert.throws(() => placed('unload', { model: 'old' }), /in its memory/)
  })

  test('is not found otherwise, with the text of Ollama', () => {
    assert.throws(() => placed('delete', { model: 'none' }), /^ProxyError: model 'none' not found$/)
    assert.throws(
      () => placed('copy', { source: 'none', destination: 'x' }),
      /^ProxyError: model "none" not found$/,
    )
  })
})

test('a model is created from files on the nodes that have them', () => {
  const fields = { model: 'new', files: { 'm.gguf': `sha256:${'0'.repeat(64)}` } }
  assert.equal(placed('create', fields, {}, new Set(['b', 'c'])).nodes, 'b c')
  assert.equal(placed('create', fields, { wish: { copies: 1 } }, new Set(['b', 'c'])).nodes, 'b')
  assert.throws(
    () => placed('create', fields, { wish: { nodes: ['a'] } }, new Set(['b'])),
    /node a does not have each of the files/,
  )
})

test('without nodes, or before their first probe, nothing is placed', () => {
  const ask = readJobRequest('pull', { model: 'm' }, {})
  assert.throws(() => placeJob(ask, aSnapshot()), { code: 'no_nodes' })
  const unseen = aSnapshot({ nodes: [{ name: 'a', health: 'unknown' }] })
  assert.throws(() => placeJob(ask, unseen), { code: 'no_place' })
})

suite('a node that departed', () => {
  const { statuses, ...documents } = aDocuments({
    nodes: [
      { name: 'here', models: ['both:latest'] },
      { name: 'gone', models: ['both:latest', 'lost:latest'] },
    ],
  })
  const [spec, status] = [documents.nodes.get('gone'), statuses.get('gone')]
  assert(spec && status)
  const snapshot = buildSnapshot({
    ...documents,
    statuses,
    nodes: new Map([...documents.nodes].filter(([name]) => name !== 'gone')),
    departed: new Map([
      [
        'gone',
        {
          spec: { ...spec, state: 'cordoned' },
          status: { ...status, health: 'down' },
          departure: { since: status.since, reason: 'its agent was stopped' },
        },
      ],
    ]),
  })

  test('does not delay the deletion of other copies, and gets no job (310)', () => {
    assert.deepEqual(placeJob(readJobRequest('delete', { model: 'both' }, {}), snapshot).nodes, ['here'])
    assert.throws(() => placeJob(readJobRequest('delete', { model: 'lost' }, {}), snapshot), {
      code: 'no_place',
    })
    assert.throws(() => placeJob(readJobRequest('pull', { model: 'new' }, { nodes: ['gone'] }), snapshot), {
      code: 'conflict',
      message: /node gone is not registered any more/,
    })
  })
})
