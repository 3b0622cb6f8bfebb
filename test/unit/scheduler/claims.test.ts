import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { aCore, aNode, briefly } from '../../support/core.ts'

const models = { a: 20, b: 20 }
const claimsOf = ({ core, clock }: ReturnType<typeof aCore>) => Object.fromEntries(core.claims(clock.now))

suite('an instance claims a node', () => {
  test('for late requests in flight whose model has left the memory since', () => {
    const fleet = aCore([aNode({ models, slots: 2 })])
    fleet.arrive({ id: 'sent' })
    fleet.after(1, { type: 'fleet', nodes: [aNode({ models, slots: 2, loaded: ['b'], room: 'free' })] })
    assert.deepEqual(claimsOf(fleet), {})
    fleet.after(40)
    assert.deepEqual(claimsOf(fleet), { n: { model: 'a', since: 1000, victims: null, inTheWay: [] } })
    fleet.tell({ type: 'left', id: 'sent' })
    assert.deepEqual(claimsOf(fleet), {})
  })

  test('for a load: at once against its victims, and against every other model once it is late', () => {
    const fleet = aCore([aNode({ models, loaded: ['b'] })])
    assert.deepEqual(briefly(fleet.arrive({ id: 'waits' })), ['n: b for a'])
    assert.deepEqual(fleet.core.claims(fleet.clock.now).get('n')?.victims, ['b'])
    fleet.after(40)
    assert.deepEqual(fleet.core.claims(fleet.clock.now).get('n')?.victims, null)
    fleet.tell({ type: 'swapped', node: 'n', model: 'a', ok: true, loadS: 40 })
    assert.deepEqual(claimsOf(fleet), {})
  })

  test('for a queued request whose load only requests of other instances prevent', () => {
    const fleet = aCore([aNode({ models, loaded: ['b'], room: 'free' })], { otherClass: { limitS: 60 } })
    fleet.arrive({ id: 'waits' })
    fleet.after(4)
    assert.deepEqual(claimsOf(fleet), {})
    fleet.after(2)
    assert.deepEqual(claimsOf(fleet), { n: { model: 'a', since: 1000, victims: null, inTheWay: [] } })
  })

  test('for no request that can wait for a slot', () => {
    const fleet = aCore([aNode({ models: { a: 5 } })])
    fleet.arrive({ id: 'runs' }, { id: 'waits' })
    fleet.after(60)
    assert.deepEqual(claimsOf(fleet), {})
  })

  test('and unloads the models in the way once the others have left the node to it', () => {
    const fleet = aCore([aNode({ models, slots: 2 })])
    fleet.arrive({ id: 'sent' })
    const now = (room: 'free' | 'any') =>
      aNode({ models, slots: 2, loaded: ['b'], room, hold: { model: 'a', victims: null } })
    const inTheWay = () => fleet.core.claims(fleet.clock.now).get('n')?.inTheWay
    fleet.after(40, { type: 'fleet', nodes: [now('free')] })
    assert.deepEqual(inTheWay(), [])
    fleet.after(1, { type: 'fleet', nodes: [now('any')] })
    assert.deepEqual(inTheWay(), ['b'])
  })
})

suite('a node that is held for a model', () => {
  const both = { models: { a: 5, b: 5 }, loaded: ['a', 'b'] }
  const held = (victims: readonly string[] | null) => aNode({ ...both, hold: { model: 'a', victims } })

  test('starts requests for that model, and keeps the others in the queue until the hold ends', () => {
    const fleet = aCore([held(null)])
    assert.deepEqual(briefly(fleet.arrive({ id: 'for-a' }, { id: 'for-b', model: 'b' })), ['for-a on n'])
    assert.deepEqual(briefly(fleet.after(20)), [])
    assert.deepEqual(briefly(fleet.tell({ type: 'fleet', nodes: [aNode(both)] })), ['for-b on n'])
  })

  test('starts requests for models that do not have to make room', () => {
    assert.deepEqual(briefly(aCore([held(['c'])]).arrive({ id: 'for-b', model: 'b' })), ['for-b on n'])
    assert.deepEqual(briefly(aCore([held(['b'])]).arrive({ id: 'for-b', model: 'b' })), [])
  })

  test('is passed over for another node that has the model', () => {
    const fleet = aCore([held(null), aNode({ ...both, name: 'other' })])
    const effects = fleet.arrive({ id: 'r', model: 'b' })
    assert.deepEqual(briefly(effects), ['r on other'])
  })
})
