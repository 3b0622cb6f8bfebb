import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { UsedElsewhere } from '../../../lib/cluster/membership/used-elsewhere.ts'
import type { LoadSummary } from '../../../lib/fleet/instance.ts'
import type { Claim } from '../../../lib/scheduler/queue/claims.ts'
import { NodeClaims } from '../../../lib/scheduler/queue/node-claims.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { aSnapshot } from '../../support/fleet.ts'

function someClaims() {
  const clock = new VirtualClock()
  const { nodes } = aSnapshot({ nodes: [{ name: 'n' }] })
  const unloaded: string[] = []
  const unload = async ({ name }: { readonly name: string }, models: readonly string[]) =>
    void unloaded.push(`${models.join('+')} on ${name}`)
  const claims = new NodeClaims({ loader: { unload }, node: (name) => nodes.get(name), clock })
  return {
    clock,
    unloaded,
    tell: (claim: Partial<Claim>) => {
      const whole = { model: 'm', since: 0, victims: null, inTheWay: [], ...claim }
      return claims.update(new Map([['n', whole]]), clock.now() / 1000)['n']
    },
  }
}

suite('the claims that an instance tells the others', () => {
  test('keep their time as long as the same request waits, also when the wall clock is set', async () => {
    const { clock, tell } = someClaims()
    const first = tell({ since: 0 })
    await clock.advance(10_000)
    clock.date = () => new Date(3_600_000)
    assert.deepEqual(tell({ since: 0 }), first)
    assert.notEqual(tell({ since: 7 })?.since, first?.since)
  })

  test('have the models in the way unloaded once, and again if that was in vain', async () => {
    const { clock, tell, unloaded } = someClaims()
    tell({})
    assert.deepEqual(unloaded, [])
    tell({ inTheWay: ['a', 'b'] })
    await clock.advance(1000)
    tell({ inTheWay: ['a', 'b'] })
    assert.deepEqual(unloaded, ['a+b on n'])
    await clock.advance(15_000)
    tell({ inTheWay: ['b'] })
    assert.deepEqual(unloaded, ['a+b on n', 'b on n'])
  })
})

test('what other instances do is the same object until it changes, and then one that tells the hold', async () => {
  const clock = new VirtualClock()
  const loads = new Map<string, LoadSummary>([['other', { running: { n: 1 }, queued: 0 }]])
  const elsewhere = new UsedElsewhere({ loads: () => loads, own: 'own', clock })
  await clock.advance(1000)
  const first = elsewhere.nodes()
  loads.set('other', { running: { n: 2 }, queued: 3 })
  await clock.advance(1000)
  assert.equal(elsewhere.nodes(), first)
  loads.set('own', { running: {}, queued: 0, claims: { n: { model: 'm', since: 1 } } })
  await clock.advance(1000)
  assert.deepEqual(elsewhere.nodes().holds.get('n'), { model: 'm', victims: null }, 'also for its own claim')
})
