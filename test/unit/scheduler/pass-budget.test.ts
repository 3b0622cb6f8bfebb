import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { defaultParameters } from '../../../lib/scheduler/parameters.ts'
import { Groups } from '../../../lib/scheduler/queue/groups.ts'
import { PassBudget } from '../../../lib/scheduler/queue/pass-budget.ts'
import { aRequest } from '../../support/core.ts'

const { window } = defaultParameters.queue

/** Groups with so many requests each; the first group has a free slot. */
function aPass(groups: number, each: number) {
  const all = new Groups()
  const joined = Array.from({ length: groups * each }, (_, nth) =>
    all.join(aRequest({ model: `m${Math.floor(nth / each)}` })),
  )
  const budget = new PassBudget(defaultParameters.queue)
  budget.begin(all.all(), ({ model }) => model === 'm0', 0)
  return { budget, joined }
}

suite('budget of a queue pass', () => {
  for (const groups of [1, 2, 10, 48])
    test(`is one window when the only free slot of ${groups} groups is taken at once (381)`, () => {
      const { budget, joined } = aPass(groups, 100)
      let evaluated = 0
      for (const [nth, group] of joined.entries()) {
        if (!budget.allows(group)) continue
        if (nth > 0) budget.close(group)
        budget.spend(group, nth === 0)
        if (nth > 0) evaluated++
      }
      assert.equal(evaluated, window)
      assert.ok(budget.isSpent)
    })

  test('leaves a group with a free slot its own window, and the others theirs (381)', () => {
    const { budget, joined } = aPass(3, 100)
    const evaluated = new Map<string, number>()
    for (const group of joined) {
      if (!budget.allows(group)) continue
      budget.spend(group, false)
      evaluated.set(group.model, (evaluated.get(group.model) ?? 0) + 1)
    }
    assert.equal(evaluated.get('m0'), window)
    assert.ok((evaluated.get('m1') ?? 0) >= window / 3)
    assert.ok((evaluated.get('m2') ?? 0) >= window / 3)
  })
})
