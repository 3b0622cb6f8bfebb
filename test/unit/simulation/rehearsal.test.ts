import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SchedulerEvent } from '../../../lib/scheduler/events.ts'
import { seededRandom } from '../../../lib/shared/random.ts'
import { capacity } from '../../../lib/simulation/fleet/capacity.ts'
import { defaultFleetText, readFleetPlan } from '../../../lib/simulation/fleet/fleet-plan.ts'
import { type RoundOptions, rehearse } from '../../../lib/simulation/fleet/round.ts'
import { mean, tally } from '../../../lib/simulation/fleet/tally.ts'
import { Timeline } from '../../../lib/simulation/fleet/timeline.ts'
import { LeastConnections, smallFleet } from '../../support/rehearsal.ts'

const goal = { ttft: 5, pace: 5 }
const steady: RoundOptions = {
  fleet: readFleetPlan(defaultFleetText),
  trace: null,
  load: 0.5,
  requests: 1000,
  scenario: 'steady',
  allResident: false,
  instances: 1,
  patience: null,
  seed: 1,
}

function run(options: Partial<RoundOptions> = {}) {
  const decider = new LeastConnections()
  return { ...rehearse({ ...steady, ...options }, () => decider), events: decider.events }
}

test('actions run in the order of their times, and at one time in the order they were planned', () => {
  const timeline = new Timeline()
  const random = seededRandom(3)
  const happened: [number, number][] = []
  for (let order = 0; order < 500; order++) {
    const at = Math.floor(random() * 50)
    timeline.at(at, () => happened.push([at, order]))
  }
  timeline.at(10, () => assert.fail('it was cancelled'))()
  timeline.run(() => true)
  assert.equal(happened.length, 500)
  assert.deepEqual(
    happened,
    happened.toSorted(([a, first], [b, second]) => a - b || first - second),
  )
})

test('the same seed gives the same outcomes, another seed others', () => {
  const [once, again, other] = [run(), run(), run({ seed: 2 })]
  assert.deepEqual(once, again)
  assert.notDeepEqual(once.outcomes, other.outcomes)
})

for (const scenario of ['steady', 'noisy-tenant', 'slow-node', 'dead-node'] as const) {
  test(`every request ends exactly once: ${scenario}, with callers that give up`, () => {
    const { outcomes, events } = run({ scenario, patience: 20, load: 0.9 })
    const ids = new Set(outcomes.map(({ request }) => request.id))
    assert.equal(ids.size, outcomes.length)
    assert.ok(outcomes.length >= 1000)
    const left = outcomes.filter(({ end }) => end === 'left')
    assert.ok(left.length > 0)
    assert.equal(outcomes.filter(({ end }) => end === 'lost').length, 0)
    const attempts = Map.groupBy(events.filter(isAboutOne), (event) =>
      event.type === 'arrived' ? event.request.id : event.id,
    )
    for (const [id, told] of attempts) {
      const count = (type: SchedulerEvent['type']) => told.filter((event) => event.type === type).length
      assert.equal(count('arrived'), count('ended') + count('left') + count('busy'), id)
    }
  })
}

function isAboutOne(event: SchedulerEvent) {
  return event.type === 'arrived' || event.type === 'ended' || event.type === 'left' || event.type === 'busy'
}

test('a request that waits at a node that dies is served by another node', () => {
  const { outcomes, events } = run({ scenario: 'dead-node', load: 0.9 })
  const failures = events.filter((event) => event.type === 'ended' && event.timings === null)
  const failed = outcomes.filter(({ end }) => end === 'failed')
  assert.ok(failures.length > failed.length)
  for (const { firstTokenAt } of failed) assert.notEqual(firstTokenAt, null, 'its caller had seen a token')
  const seen = new Set<string>()
  for (const event of events) {
    if (event.type === 'first-token') seen.add(event.id)
    if (event.type === 'arrived')
      assert.ok(!seen.has(event.request.id), 'no request starts again after its caller has seen a token')
  }
})

test('the noisy tenant asks for three times the capacity for a minute from half time on', () => {
  const { outcomes } = run({ scenario: 'noisy-tenant' })
  const half = (run().outcomes.at(-1)?.request.at ?? 0) / 2
  const noise = outcomes.filter(({ request }) => request.tenant === 'noisy').map(({ request }) => request.at)
  const perSecond = 1000 / (2 * half) / 0.5
  assert.ok(Math.abs(noise.length / (3 * 60 * perSecond) - 1) < 0.02)
  assert.ok(Math.min(...noise) >= half && Math.max(...noise) <= half + 60)
})

test('the fleet serves as many requests as its capacity says when it has nothing else to do', () => {
  const fleet = { ...smallFleet(), models: [{ name: 'a', size: 10e9, share: 1 }] }
  const most = capacity(fleet, new Map(), { newTokens: 200, outputTokens: 50 })
  // Model a at two slots: 2 s of reading, and 50 tokens at 2 x 8.7 a second.
  assert.ok(Math.abs(most - 1 / (2 + (5 * 1.15) / 2)) < 1e-9)
})

/**
 * An earlier simulation of six models at load 0.5 says of least-connections: 30.3 % within the goal, and 1,323 loads in 5,000
 * requests. It tells its node model in words only: ±8 points, a factor of 1.5. Waiting times of a queue that only grows say
 * nothing.
 */
test('on the default fleet, least-connections does as badly as an earlier simulation says', () => {
  const rounds = [11, 12, 13].map((seed) => run({ requests: 5000, seed }))
  const slo = mean(rounds.map(({ outcomes }) => tally(outcomes, goal).slo))
  const loads = mean(rounds.map((each) => each.loads))
  assert.ok(slo > 0.223 && slo < 0.383, `${slo}`)
  assert.ok(loads > 1323 / 1.5 && loads < 1323 * 1.5, `${loads}`)
})
