import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BodyBudget, type BodyShare } from '../../lib/gateway/body-budget.ts'

const limit = 1000

const step = fc.oneof(
  fc.record({ act: fc.constant('open' as const) }),
  fc.record({ act: fc.constant('take' as const), share: fc.nat(20), bytes: fc.nat(600) }),
  fc.record({ act: fc.constant('end' as const), share: fc.nat(20) }),
)

test('whatever requests do, the budget is never exceeded, never negative, and whole at the end (71)', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const budget = new BodyBudget()
      const shares: BodyShare[] = []
      const held = new Map<BodyShare, number>()
      const sum = () => [...held.values()].reduce((total, bytes) => total + bytes, 0)
      for (const each of steps) {
        const share = each.act === 'open' ? undefined : shares[each.share % shares.length]
        if (each.act === 'open') {
          const fresh = budget.open()
          shares.push(fresh)
          held.set(fresh, 0)
        } else if (share && each.act === 'take') {
          const mine = held.get(share)
          const fits = mine !== undefined && sum() + each.bytes <= limit
          assert.equal(share.take(each.bytes, limit), fits, 'taken if it fits and the request has not ended')
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
