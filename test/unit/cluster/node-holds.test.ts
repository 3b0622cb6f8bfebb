import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { NodeHolds } from '../../../lib/cluster/membership/node-holds.ts'
import type { NodeClaim } from '../../../lib/fleet/instance.ts'

type Claims = Readonly<Record<string, NodeClaim>>

/** Tells for which model node `n` is held, while instances claim it, at a time in seconds. */
function someHolds() {
  const holds = new NodeHolds()
  return (seconds: number, claims: Claims) => {
    const loads = Object.entries(claims).map(
      ([id, claim]) => [id, { running: {}, queued: 0, claims: { n: claim } }] as const,
    )
    return holds.update(new Map(loads), 1000 * seconds).get('n')?.model ?? null
  }
}

suite('a node that instances claim', () => {
  test('is held for the oldest claim, however late an instance hears of it, and then for the next', () => {
    const [one, other] = [someHolds(), someHolds()]
    const [older, younger] = [
      { model: 'm', since: 100 },
      { model: 'n', since: 200 },
    ]
    assert.equal(one(0, { a: younger, b: older }), 'm')
    assert.equal(other(0, { a: younger }), 'n')
    assert.equal(other(1, { a: younger, b: older }), 'm', 'all instances hold it for the same model')
    assert.equal(other(5, { a: younger }), 'n')
    assert.equal(other(6, {}), null)
  })

  test('is held for 30 s at most, also while the store is stuck, and then for none for 30 s', () => {
    const holdAt = someHolds()
    const claims = { a: { model: 'm', since: 100 } }
    assert.equal(holdAt(0, claims), 'm')
    assert.equal(holdAt(29.9, claims), 'm')
    for (const seconds of [30, 45, 60, 90, 900]) assert.equal(holdAt(seconds, claims), null, `${seconds} s`)
  })

  test('rests after a claim that had its time, whatever else is claimed, and serves the others after that', () => {
    const holdAt = someHolds()
    const first = { a: { model: 'm', since: 100 } }
    const both = { ...first, b: { model: 'n', since: 200 } }
    assert.equal(holdAt(0, first), 'm')
    assert.equal(holdAt(31, both), null)
    assert.equal(holdAt(59, both), null)
    assert.equal(holdAt(61, both), 'n')
    assert.equal(
      holdAt(62, { a: { model: 'm', since: 150 } }),
      'm',
      'for another request of the same instance',
    )
  })

  test('is held for nobody by an older instance, which claims nothing', () => {
    assert.equal(new NodeHolds().update(new Map([['a', { running: { n: 3 }, queued: 1 }]]), 0).size, 0)
  })

  test('gives the models that make room for a load nothing new, and all others where Ollama chooses them', () => {
    const hold = (claim: NodeClaim) =>
      new NodeHolds().update(new Map([['a', { running: {}, queued: 0, claims: { n: claim } }]]), 0).get('n')
    assert.deepEqual(hold({ model: 'm', since: 1, victims: ['v'] }), { model: 'm', victims: ['v'] })
    assert.deepEqual(hold({ model: 'm', since: 1 }), { model: 'm', victims: null })
  })
})
