import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BodyBudget, type BodyShare } from '../../../lib/gateway/body/body-budget.ts'

const limit = 1000
const room = { alone: limit, together: limit }

const step = fc.oneof(
  fc.record({ act: fc.constant('open' as const) }),
  fc.record({ act: fc.constant('take' as const), share: fc.nat(20), bytes: fc.nat(600) }),
  fc.record({ act: fc.constant('end' as const), share: fc.nat(20) }),
)

test('the budget is never exceeded, never negative, and whole at the end (71)', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const budget = new BodyBudget()
      const shares: BodyShare[] = []
      const held = new Map<BodyShare, number>()
      const sum = () => [...held.values()].reduce((total, bytes) => total + bytes, 0)
      for (const each of steps) {
        const share = each.act === 'open' ? undefined : shares[each.share % shares.length]
        if (each.act === 'open') {
          const fresh = budget.open('tenant a')
          shares.push(fresh)
          held.set(fresh, 0)
        } else if (share && each.act === 'take') {
          const mine = held.get(share)
          const fits = mine !== undefined && sum() + each.bytes <= limit
          assert.equal(share.take(each.bytes, room), fits, 'taken if it fits and the request has not ended')
          if (fits) held.set(share, mine + each.bytes)
        } else if (share) {
          share[Symbol.dispose]() // also a second time
          held.delete(share)
        }
        assert.equal(budget.held, sum())
        assert(budget.held >= 0 && budget.held <= limit)
      }
      for (const share of shares) share[Symbol.dispose]()
      assert.equal(budget.held, 0)
    }),
  )
})

const mib = 1024 * 1024
const large = { alone: 64 * mib, together: 512 * mib }

test('one owner leaves a quarter of the budget to the others, and two leave a seventh (344)', () => {
  const budget = new BodyBudget()
  const fill = (owner: string) => {
    let taken = 0
    while (budget.open(owner).take(mib, large)) taken++
    return taken
  }
  const first = fill('tenant a')
  assert(first >= 360 && first <= 400, `${first} MiB`)
  const other = budget.open('address 10.0.0.1')
  assert(other.take(64 * mib, large), 'a largest body of somebody else')
  other[Symbol.dispose]()
  fill('tenant b')
  assert(budget.held < 512 * mib)
})

test('an owner that has used up its part still sends small requests (344)', () => {
  const budget = new BodyBudget()
  while (budget.open('tenant a').take(mib, large));
  for (let n = 0; n < 100; n++) assert(budget.open('tenant a').take(64 * 1024, large))
})

test('an owner can take again what it released (344)', () => {
  const budget = new BodyBudget()
  for (let round = 0; round < 5; round++) {
    const shares = Array.from({ length: 5 }, () => budget.open('tenant a'))
    for (const share of shares) assert(share.take(64 * mib, large))
    shares[0]?.release(64 * mib)
    for (const share of shares) share[Symbol.dispose]()
    assert.equal(budget.held, 0)
  }
})
