import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { TenantReservation } from '../../../lib/scheduler/queue/tenant-reservation.ts'
import { Tenants } from '../../../lib/scheduler/queue/tenants.ts'
import { aCore, aNode, aRequest, briefly, type Changes, someParameters, without } from '../../support/core.ts'

const changes: Changes = {
  classes: { high: { rank: 0, ttftS: 5, limitS: 1000 }, low: { rank: 1, ttftS: 5, limitS: 1000 } },
  otherClass: { rank: 0, ttftS: 5, limitS: 1000 },
  admission: { tenantS: 1e6, maxWaitS: 1e6, leastLimitS: 1e6, evidence: 1e9 },
}
/** One request takes about 1.6 s of this fleet's work. */
const node = aNode({ slots: 4, models: { a: 5, b: 5, c: 5 }, loaded: ['a', 'b'] })
/** So many requests that arrive at once. */
const flood = (count = 8, request = {}) =>
  Array.from({ length: count }, (_, nth) => ({ id: `noise${nth}`, tenant: 'noisy', ...request }))
/** Requests of another tenant. */
const light = (id: string, request = {}) => ({ id, tenant: id, ...request })

function starts(effects: Parameters<typeof briefly>[0]): number {
  return effects.filter(({ type }) => type === 'start').length
}

suite('a tenant that asks for much more than its share', () => {
  test('leaves slots to the others, which start at once', () => {
    const { core, arrive } = aCore([node], changes)
    arrive(light('first'))
    assert.deepEqual(briefly(arrive(...flood())), ['noise0 on n'], 'only its share of the running requests')
    assert.deepEqual(
      core.queued().map(({ plan }) => [plan?.waitsFor, plan?.node]),
      Array(7).fill(['share', null]),
    )
    assert.deepEqual(briefly(arrive(light('second'))), ['second on n'])
    assert.deepEqual(briefly(arrive(light('third'))), ['third on n'])
  })

  test('gets its share, even with the last slot', () => {
    const { arrive } = aCore([node], changes)
    arrive(light('first'))
    arrive(...flood())
    assert.deepEqual(briefly(arrive(light('second', { tenant: 'first' }))), ['second on n', 'noise2 on n'])
  })

  test('has every slot while it is alone', () => {
    const { arrive } = aCore([node], changes)
    assert.equal(starts(arrive(...flood())), 4)
  })

  test('has every slot again once the others have sent nothing for two minutes', () => {
    const { arrive, after, end } = aCore([node], changes)
    arrive(light('first'))
    after(1)
    end('first')
    after(110)
    assert.equal(starts(arrive(...flood())), 3, 'one slot is reserved for the other tenant')
    const again = aCore([node], changes)
    again.arrive(light('first'))
    again.after(1)
    again.end('first')
    again.after(120)
    assert.equal(starts(again.arrive(...flood())), 4)
  })

  test('is held back only while it asks for so much', () => {
    const { arrive, after } = aCore([node], changes)
    arrive(light('first'))
    arrive(...flood())
    assert.equal(starts(after(0.2)), 0)
    assert.equal(starts(after(9)), 2)
  })

  test('slows down no other model of a node, and loads no model', () => {
    const { arrive, after } = aCore([node], changes)
    arrive(light('first', { model: 'a' }))
    arrive(...flood(1, { model: 'a' }))
    after(0.25)
    const requests = [...flood(8, { model: 'b' }), ...flood(8, { model: 'c' })]
    assert.deepEqual(arrive(...requests.map((request, nth) => ({ ...request, id: `more${nth}` }))), [])
    assert.equal(starts(arrive(light('second', { model: 'b' }))), 1)
  })

  test('may have the share of its weight', () => {
    const { arrive } = aCore([node], { ...changes, tenantWeights: { noisy: 9 } })
    arrive(light('first'))
    assert.equal(starts(arrive(...flood())), 3)
  })

  test('is not held back for less urgent requests', () => {
    const { arrive } = aCore([node], changes)
    arrive(light('first', { class: 'low' }))
    assert.equal(starts(arrive(...flood(8, { class: 'high' }))), 3)
  })

  test('is not overtaken by less urgent requests while it is held back', () => {
    const { core, arrive } = aCore([node], changes)
    arrive(light('first', { class: 'high' }))
    arrive(...flood(8, { class: 'high' }))
    assert.deepEqual(briefly(arrive(light('second', { class: 'low' }))), [])
    assert.equal(core.plan('second')?.waitsFor, 'slot')
    assert.deepEqual(briefly(arrive(light('third', { class: 'high' }))), ['third on n'])
  })

  test('is not held back without fairness among tenants', () => {
    const { arrive } = aCore([node], { ...changes, ...without('fairness') })
    arrive(light('first'))
    assert.equal(starts(arrive(...flood())), 3)
  })

  test('waits for its share, and is refused at once when its queue gets too long', () => {
    const { core, clock, arrive } = aCore([node])
    arrive(light('first'))
    const effects = arrive(...flood(30))
    const refused = effects.flatMap((effect) => (effect.type === 'refuse' ? [effect] : []))
    assert.ok(refused.length > 20)
    assert.ok(refused.every(({ reason, retryAfterS }) => reason === 'no-capacity' && retryAfterS >= 1))
    const { waitsFor, predictedStart } = core.explain(aRequest({ id: 'x', tenant: 'noisy' }), clock.now)
    assert.equal(waitsFor, 'share')
    assert.ok((predictedStart ?? 0) > clock.now)
    assert.equal(core.explain(aRequest({ id: 'y', tenant: 'first' }), clock.now).waitsFor, null)
  })
})

test('of several tenants those are held back that ask for more than the smaller demands leave', () => {
  const parameters = someParameters()
  const tenants = new Tenants(parameters)
  const reservation = new TenantReservation(parameters, tenants)
  for (const [tenant, fleetS] of [
    ['noisy', 9],
    ['loud', 9],
    ['usual', 1.5],
    ['light', 0.3],
  ] as const) {
    tenants.began(tenant, 1000)
    reservation.requested(tenant, 0, fleetS, 100)
  }
  const held = (tenant: string) => reservation.limits(tenant, 0, 100)
  assert.deepEqual([held('usual'), held('light'), held('unknown')], [null, null, null])
  assert.ok(held('noisy'))
  assert.ok(held('loud'))
  assert.equal(reservation.limits('noisy', 0, 110), null, 'it is over')
})
