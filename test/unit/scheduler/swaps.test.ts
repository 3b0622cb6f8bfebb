import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { aCore, aNode, aRequest, aResident, briefly, type Changes } from '../../support/core.ts'

const giga = 1e9
const patience: Changes = {
  otherClass: { rank: 0, ttftS: 5, limitS: 1000 },
  admission: { tenantS: 1e6, maxWaitS: 1e6, leastLimitS: 1e6 },
}
/** A node with room for one of its two models. */
const crowded = aNode({ models: { a: 15, b: 15 }, loaded: ['a'] })
const swapped = { type: 'swapped', node: 'n', model: 'b', ok: true, loadS: 4 } as const

suite('swaps', () => {
  test('a single node with its model in memory needs none', () => {
    const { arrive } = aCore([aNode()])
    assert.deepEqual(briefly(arrive({ id: 'r' })), ['r on n'])
  })

  test('a model that is not in memory is loaded first, and then the request starts', () => {
    const { arrive, tell } = aCore([aNode({ loaded: [] })])
    assert.deepEqual(briefly(arrive({ id: 'r' })), ['n: nothing for a'])
    const effects = tell({ ...swapped, model: 'a' })
    assert.deepEqual(briefly(effects), ['r on n'])
    assert.ok(effects[0]?.type === 'start')
    assert.equal(effects[0].decision.reason, 'cold-load')
  })

  test('a model that was never in memory is estimated to need more than its file', () => {
    const { arrive, end, tell } = aCore([aNode({ models: { a: 11, b: 11 }, loaded: [] })], patience)
    assert.deepEqual(briefly(arrive({ id: 'a1', model: 'a' })), ['n: nothing for a'])
    tell({ ...swapped, model: 'a' })
    end('a1')
    assert.deepEqual(briefly(arrive({ id: 'b1', model: 'b' })), ['n: a for b'], 'of 24 GB')
  })

  test('a busy victim gets no new requests, and is unloaded once its requests have ended', () => {
    const { arrive, after, end, tell } = aCore([crowded], patience)
    assert.deepEqual(briefly(arrive({ id: 'a1', model: 'a' })), ['a1 on n'])
    assert.deepEqual(briefly(arrive({ id: 'b1', model: 'b' })), [])
    after(1)
    assert.deepEqual(briefly(arrive({ id: 'a2', model: 'a' })), [], 'a victim gets no request')
    assert.deepEqual(briefly(end('a1')), ['n: a for b'])
    assert.deepEqual(briefly(after(1)), [], 'nor does it while the model loads')
    assert.deepEqual(briefly(tell(swapped)), ['b1 on n'])
  })

  test('a victim whose requests do not end in 60 s stays, and the swap is not tried again at once', () => {
    const { arrive, after } = aCore([crowded], patience)
    arrive({ id: 'a1', model: 'a' })
    arrive({ id: 'b1', model: 'b' })
    after(59)
    assert.deepEqual(briefly(arrive({ id: 'a2', model: 'a' })), [])
    assert.deepEqual(briefly(after(1, { type: 'left', id: 'a1' })), ['a2 on n'])
    assert.deepEqual(briefly(after(29, { type: 'left', id: 'a2' })), [])
    assert.deepEqual(briefly(after(1)), ['n: a for b'], 'but after 30 s')
  })

  test('a swap that no request waits for is given up', () => {
    const { arrive, after } = aCore([crowded], patience)
    arrive({ id: 'a1', model: 'a' })
    arrive({ id: 'b1', model: 'b' })
    after(1, { type: 'left', id: 'b1' })
    assert.deepEqual(briefly(after(1, { type: 'ended', id: 'a1', timings: null })), [])
    assert.deepEqual(briefly(arrive({ id: 'a2', model: 'a' })), ['a2 on n'])
  })

  test('at most one swap per node, and two per model, are under way', () => {
    const empty = ['n1', 'n2', 'n3', 'n4'].map((name) => aNode({ name, models: { a: 5, b: 5 }, loaded: [] }))
    const { arrive } = aCore(empty, patience)
    const many = Array.from({ length: 8 }, (_, nth) => ({ id: `a${nth}`, model: 'a' }))
    assert.equal(arrive(...many).length, 2)
    const [single] = [aCore([aNode({ models: { a: 5, b: 5 }, loaded: [] })], patience)]
    assert.deepEqual(briefly(single.arrive({ id: 'a', model: 'a' }, { id: 'b', model: 'b' })), [
      'n: nothing for a',
    ])
  })

  test('a failed load is not tried again for 30 s: requests without another node are refused at once', () => {
    const { core, clock, arrive, after, tell } = aCore([aNode({ loaded: [] })], patience)
    arrive({ id: 'r' })
    assert.deepEqual(briefly(tell({ ...swapped, model: 'a', ok: false })), ['r load-failed'])
    after(20)
    const [refused] = arrive({ id: 'soon' })
    assert.ok(refused?.type === 'refuse')
    assert.deepEqual(
      [refused.reason, refused.node, Math.round(refused.retryAfterS)],
      ['load-failed', 'n', 10],
    )
    assert.equal(core.explain(aRequest({ id: 'x' }), clock.now).refused, 'load-failed')
    after(10)
    assert.deepEqual(briefly(arrive({ id: 'later' })), ['n: nothing for a'])
  })

  test('a request that another node failed waits until the load is tried again', () => {
    const nodes = [aNode({ name: 'warm' }), aNode({ name: 'bad', loaded: [] })]
    const { arrive, after, tell } = aCore(nodes, patience)
    arrive({ id: 'first', labels: {}, tried: new Set(['warm']) })
    tell({ ...swapped, node: 'bad', model: 'a', ok: false }, { type: 'left', id: 'first' })
    assert.deepEqual(briefly(arrive({ id: 'r', tried: new Set(['warm']) })), [])
    assert.deepEqual(briefly(after(29)), [])
    assert.deepEqual(briefly(after(1)), ['bad: nothing for a'])
  })

  test('a load that a busy node put off does not count as failed', () => {
    const { arrive, tell } = aCore([aNode({ loaded: [] })], patience)
    arrive({ id: 'r' })
    assert.deepEqual(briefly(tell({ ...swapped, model: 'a', ok: false, isBusy: true })), ['n: nothing for a'])
  })

  test('a failed load refuses no request that another node can serve', () => {
    const nodes = [aNode({ name: 'bad', loaded: [] }), aNode({ name: 'good', loaded: ['a'] })]
    const { arrive, tell } = aCore(nodes, patience)
    arrive({ id: 'runs' })
    arrive(...Array.from({ length: 9 }, (_, nth) => ({ id: `r${nth}` })))
    const effects = tell({ ...swapped, node: 'bad', model: 'a', ok: false })
    assert.ok(
      effects.every(({ type }) => type !== 'refuse'),
      briefly(effects).join(),
    )
  })

  test('a failed load is tried again after 30 s, also while fleet updates keep coming', () => {
    const empty = aNode({ loaded: [] })
    const { arrive, after, tell } = aCore([empty], patience)
    arrive({ id: 'r', tried: new Set(['other']) })
    tell({ ...swapped, model: 'a', ok: false })
    const looks = Array.from({ length: 62 }, () => briefly(after(0.5, { type: 'fleet', nodes: [empty] })))
    const loads = looks.flatMap((effects, nth) => effects.map((effect) => [(nth + 1) * 0.5, effect]))
    assert.deepEqual(loads, [[30, 'n: nothing for a']])
  })

  test('a load that its node put off is requested as soon as the node takes requests again', () => {
    const empty = aNode({ loaded: [] })
    const { arrive, tell } = aCore([empty], patience)
    arrive({ id: 'r' })
    const busy = { ...empty, barriers: new Map([['a', 'busy' as const]]) }
    tell({ type: 'fleet', nodes: [busy] })
    assert.deepEqual(briefly(tell({ ...swapped, model: 'a', ok: false, isBusy: true })), [])
    assert.deepEqual(briefly(tell({ type: 'fleet', nodes: [{ ...empty }] })), ['n: nothing for a'])
  })

  test('a failed load is tried again as soon as its node comes back after it was gone', () => {
    const empty = aNode({ loaded: [] })
    const { arrive, tell } = aCore([empty, aNode({ name: 'm', models: {} })], patience)
    arrive({ id: 'r' })
    tell({ ...swapped, model: 'a', ok: false })
    tell({ type: 'fleet', nodes: [{ ...empty, available: false }] })
    tell({ type: 'fleet', nodes: [{ ...empty }] })
    assert.deepEqual(briefly(arrive({ id: 's' })), ['n: nothing for a'])
  })

  test('victims that the node does not unload stay in use', () => {
    const { arrive, tell } = aCore([crowded], patience)
    arrive({ id: 'b1', model: 'b' })
    assert.deepEqual(briefly(arrive({ id: 'a1', model: 'a' })), [], 'not while they are victims')
    assert.deepEqual(briefly(tell({ ...swapped, ok: false, kept: ['a'] })), ['a1 on n'])
  })

  test('of two loads with the same end the one under way wins', () => {
    const nodes = ['n1', 'n2'].map((name) => aNode({ name, slots: 4, loaded: [] }))
    for (const [before, then] of [
      [0, 0.9],
      [0.9, 0],
    ] as const) {
      let random: number = before
      const { arrive } = aCore(nodes, patience, 'earliest-finish', () => random)
      assert.equal(arrive({ id: 'first' }).length, 1)
      random = then
      for (let nth = 0; nth < 3; nth++) assert.deepEqual(arrive({ id: `later${nth}` }), [])
    }
  })

  test('a request does not wait for a load that is much overdue if another node can load', () => {
    const nodes = ['n1', 'n2'].map((name) => aNode({ name, slots: 4, loaded: [] }))
    const { arrive, after } = aCore(nodes, patience)
    const [first] = arrive({ id: 'r' })
    // Loading 5 GB takes 4.3 s.
    assert.deepEqual(after(4.5), [])
    assert.deepEqual(after(2), [], 'with this delay it may still end first')
    const [second] = after(4)
    assert.ok(first?.type === 'swap' && second?.type === 'swap')
    assert.notEqual(second.node, first.node)
  })

  test('the penalty of a victim counts only requests for variants that it serves', () => {
    const models = { a: 5, b: 20 }
    const others = { variant: '{"num_ctx":8192}' }
    const resident = (variant: string) => [aResident({ model: 'b', size: 20e9, variant })]
    const { core, clock, tell } = aCore([
      { ...aNode({ name: 'plain', models }), resident: resident('') },
      { ...aNode({ name: 'large', models }), resident: resident(others.variant) },
    ])
    for (const id of ['x', 'y', 'z']) {
      tell({ type: 'arrived', request: aRequest({ id, model: 'b', arrivedAt: clock.now, ...others }) })
      tell({ type: 'left', id })
    }
    clock.now += 1
    const { candidates } = core.explain(aRequest(), clock.now)
    const eviction = Object.fromEntries(candidates.map((each) => [each.node, each.eviction]))
    assert.deepEqual([eviction['plain'], (eviction['large'] ?? 0).toFixed(1)], [0, '14.3'])
  })

  test('facts from before the load of a variant do not change the variant', () => {
    const large = '{"num_ctx":8192}'
    const idle = aNode({ loaded: [] })
    const seen = (contextLength: number) => ({
      ...idle,
      resident: [aResident({ model: 'a', variant: null, contextLength })],
    })
    const { arrive, tell, after, end } = aCore([idle], patience)
    arrive({ id: 'r', variant: large })
    assert.deepEqual(briefly(tell({ ...swapped, model: 'a' })), ['r on n'])
    end('r')
    after(1, { type: 'fleet', nodes: [seen(4096)] })
    after(5, { type: 'fleet', nodes: [seen(8192)] })
    assert.deepEqual(briefly(arrive({ id: 's', variant: large })), ['s on n'])
    end('s')
    assert.deepEqual(
      briefly(arrive({ id: 't' })),
      ['n: a for a'],
      "the node's own context is another variant",
    )
  })

  test('facts from before the end of a swap do not undo it', () => {
    const { arrive, after, end, tell } = aCore([crowded], patience)
    arrive({ id: 'b1', model: 'b' })
    tell(swapped)
    assert.deepEqual(briefly(after(1, { type: 'fleet', nodes: [crowded] })), [])
    assert.deepEqual(briefly(end('b1')), [])
    assert.deepEqual(briefly(arrive({ id: 'b2', model: 'b' })), ['b2 on n'], 'b is where it was loaded')
    after(5, { type: 'fleet', nodes: [crowded] })
    end('b2')
    assert.deepEqual(
      briefly(arrive({ id: 'a1', model: 'a' })),
      ['a1 on n'],
      'facts count again after a while',
    )
  })

  test('another variant of the model in memory is the victim', () => {
    const node = aNode()
    const { arrive } = aCore([node], patience)
    assert.deepEqual(briefly(arrive({ id: 'r', variant: '{"num_ctx":8192}' })), ['n: a for a'])
  })

  test('a runner that another client loaded serves requests for its context, and requests without one', () => {
    const foreign = { ...aNode({ slots: 2 }), resident: [aResident({ model: 'a', variant: null })] }
    const { arrive } = aCore([foreign], patience)
    assert.deepEqual(briefly(arrive({ id: 'r', variant: '{"num_ctx":4096}' }, { id: 's' })), [
      'r on n',
      's on n',
    ])
    assert.deepEqual(briefly(arrive({ id: 't' })), [], 'the slots are the same')
  })

  const rooms: readonly [what: string, node: Parameters<typeof aNode>[0], victims: string][] = [
    ['a model that fits evicts nothing', { models: { a: 5, b: 5, c: 10 }, loaded: ['a', 'b'] }, 'nothing'],
    ['as few as make room', { models: { a: 5, b: 12, c: 14 }, loaded: ['a', 'b'] }, 'b'],
    ['not more models than Ollama keeps', { models: { a: 1, b: 1, c: 1 }, maxLoaded: 1, loaded: ['a'] }, 'a'],
    [
      'a model larger than the memory evicts all others',
      { models: { a: 5, b: 5, c: 40 }, loaded: ['a', 'b'] },
      'a+b',
    ],
  ]
  for (const [what, node, victims] of rooms)
    test(`room: ${what}`, () => {
      const { arrive } = aCore([aNode(node)], patience)
      const [swap] = arrive({ id: 'c', model: 'c' })
      assert.ok(swap?.type === 'swap')
      assert.equal([...swap.victims].sort().join('+') || 'nothing', victims)
    })

  test('without configured memory the most that was seen at once fits', () => {
    const models = { a: 5, b: 5, c: 5, d: 9 }
    const seen = aNode({ memory: null, models, loaded: ['a', 'b'] })
    const { arrive, tell } = aCore([seen], patience)
    tell({ type: 'fleet', nodes: [{ ...seen, resident: [aResident({ model: 'a' })] }] })
    assert.deepEqual(
      briefly(arrive({ id: 'c', model: 'c' })),
      ['n: nothing for c'],
      '10 GB were seen at once',
    )
    tell({ ...swapped, model: 'c' })
    const [swap] = arrive({ id: 'b', model: 'b' })
    assert.ok(swap === undefined || swap.type === 'swap')
  })

  test('a model is loaded where the victims have the lowest penalty', () => {
    const models = { a: 10, b: 20 }
    const { arrive } = aCore(
      [
        aNode({ name: 'full', models, loaded: ['b'] }),
        aNode({ name: 'empty', models, loaded: [] }),
        aNode({ name: 'other', models: { b: 20 }, loaded: ['b'], slots: 4 }),
      ],
      patience,
    )
    arrive({ id: 'b1', model: 'b' })
    assert.deepEqual(briefly(arrive({ id: 'a1', model: 'a' })), ['empty: nothing for a'])
  })

  test('a request waits for a slot rather than a load if the slot is sooner', () => {
    const models = { a: 15 }
    const { core, clock, arrive } = aCore(
      [aNode({ name: 'warm', models }), aNode({ name: 'cold', models, loaded: [] })],
      patience,
    )
    arrive({ id: 'first' })
    arrive({ id: 'second', maxTokens: 10 })
    const { waitsFor, predictedStart } = core.explain(aRequest({ id: 'second' }), clock.now)
    assert.equal(waitsFor, 'slot')
    // 15 GB take 2 s to read the prompt, and 5 s for 100 tokens.
    assert.equal(predictedStart?.toFixed(3), (1000 + 7).toFixed(3))
  })

  test('sizes that Ollama reports override those on disk', () => {
    const node = aNode({ models: { a: 5, b: 5 }, loaded: [] })
    const large = aResident({ model: 'a', size: 20 * giga })
    const { arrive } = aCore([{ ...node, resident: [large] }], patience)
    assert.deepEqual(briefly(arrive({ id: 'b', model: 'b' })), ['n: a for b'])
  })
})
