import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Core } from '../../../lib/scheduler/core.ts'
import type { NodeFacts, SchedulerEvent } from '../../../lib/scheduler/events.ts'
import { defaultParameters } from '../../../lib/scheduler/parameters.ts'
import type { Decider } from '../../../lib/simulation/fleet/decider.ts'
import { defaultFleetText, readFleetPlan } from '../../../lib/simulation/fleet/fleet-plan.ts'
import { type DeciderOf, type RoundOptions, rehearse } from '../../../lib/simulation/fleet/round.ts'

const steady: RoundOptions = {
  fleet: readFleetPlan(defaultFleetText),
  trace: null,
  load: 0.85,
  requests: 600,
  scenario: 'steady',
  allResident: false,
  instances: 3,
  patience: null,
  seed: 1,
}

/** What one instance was told and asked, with the times. */
interface Watched {
  readonly told: { readonly event: SchedulerEvent; readonly at: number }[]
  readonly askedForClaims: number[]
}

function run(
  options: Partial<RoundOptions> = {},
  policy: 'earliest-finish' | 'round-robin' = 'earliest-finish',
) {
  const instances: Watched[] = []
  const deciderOf: DeciderOf = (random) => {
    const watched: Watched = { told: [], askedForClaims: [] }
    instances.push(watched)
    return watchedCore(new Core({ policy, parameters: defaultParameters, random }), watched)
  }
  return { ...rehearse({ ...steady, ...options }, deciderOf), instances }
}

function watchedCore(core: Core, { told, askedForClaims }: Watched): Decider {
  return {
    take(event, now) {
      told.push({ event, at: now })
      core.take(event, now)
    },
    pass: (now) => core.pass(now),
    nextTickAt: (now) => core.nextTickAt(now),
    claims(now) {
      askedForClaims.push(now)
      return core.claims(now)
    },
  }
}

const arrivals = ({ told }: Watched) =>
  told.flatMap(({ event }) => (event.type === 'arrived' ? event.request : []))
const uniqueIds = (watched: Watched) => new Set(arrivals(watched).map(({ id }) => id))
/** The nodes as the instance knew them, one entry for each time that it was told. */
const fleets = ({ told }: Watched) =>
  told.flatMap(({ event, at }) => (event.type === 'fleet' ? { nodes: event.nodes, at } : []))
const rooms = (nodes: readonly NodeFacts[]) => nodes.map(({ room }) => room)

test('with several instances, too, the same seed gives the same course, and another seed another', () => {
  const ends = (seed: number) =>
    run({ seed }).outcomes.map(({ request, end, endedAt }) => `${request.id} ${end} at ${endedAt}`)
  const once = ends(1).join()
  // Not `equal`: the difference of two courses would take minutes to print.
  assert.ok(once === ends(1).join())
  assert.ok(once !== ends(2).join())
})

test('requests are the same for any number of instances, and each goes to one of them by chance', () => {
  const [one, three] = [run({ instances: 1 }), run()]
  const asked = ({ outcomes }: typeof one) =>
    outcomes.map(({ request: { id, at, model } }) => `${id} ${at} ${model}`)
  assert.deepEqual(asked(one), asked(three))
  const ids = three.instances.map(uniqueIds)
  assert.equal(
    ids.reduce((sum, { size }) => sum + size, 0),
    600,
  )
  assert.equal(new Set(ids.flatMap((own) => [...own])).size, 600)
  for (const { size } of ids) assert.ok(size > 150 && size < 250, `${size} of 600 requests`)
})

test('a session of the trace stays with its instance', () => {
  const trace = Array.from({ length: 200 }, (_, at) => ({
    at,
    promptTokens: 100,
    outputTokens: 10,
    session: `${at % 20}`,
    reusableTokens: 0,
  }))
  const { outcomes, instances } = run({ trace, requests: 200 })
  const sessions = new Map(outcomes.map(({ request }) => [request.id, request.session]))
  const seen = instances.map((each) => new Set([...uniqueIds(each)].map((id) => sessions.get(id))))
  assert.equal(
    seen.reduce((sum, { size }) => sum + size, 0),
    20,
  )
})

test('every request ends exactly once when a node dies and callers give up', () => {
  const { outcomes } = run({ scenario: 'dead-node', patience: 20 })
  assert.equal(new Set(outcomes.map(({ request }) => request.id)).size, 600)
  assert.equal(outcomes.length, 600)
  assert.equal(outcomes.filter(({ end }) => end === 'lost').length, 0)
})

test('one instance sends nothing beyond the slots; several do, since each counts only its own', () => {
  const [one, three] = [1, 3].map((instances) => run({ instances }).sent)
  assert.ok(one && three)
  assert.equal(one.beyondSlots, 0)
  assert.ok(three.beyondSlots > 0.1 * three.all, `${three.beyondSlots} of ${three.all}`)
})

test('an instance that is alone hears of no other and may use every node for a load', () => {
  const { instances } = run({ instances: 1 })
  assert.equal(instances.length, 1)
  const [alone] = instances
  assert.ok(alone)
  assert.deepEqual(alone.askedForClaims, [])
  for (const { nodes } of fleets(alone))
    for (const { room, hold } of nodes) assert.deepEqual([room, hold], ['any', null])
})

test('each instance publishes once a second, and not all at the same time', () => {
  const { instances } = run()
  for (const { askedForClaims } of instances) {
    assert.ok(askedForClaims.length > 60)
    for (const [nth, at] of askedForClaims.entries()) {
      const gap = at - (askedForClaims[nth - 1] ?? at - 1)
      assert.ok(Math.abs(gap - 1) < 1e-6, `${gap} s between two summaries`)
    }
  }
  assert.equal(new Set(instances.map(({ askedForClaims }) => askedForClaims[0])).size, 3)
})

test('where no other instance runs anything, the first may evict, and the others only for a missing model', () => {
  const { instances } = run({ load: 0.05, requests: 60 })
  const seen = instances.map((each) => new Set(fleets(each).flatMap(({ nodes }) => rooms(nodes))))
  assert.ok(seen[0]?.has('any') && !seen[0].has('missing'))
  for (const others of seen.slice(1)) assert.ok(others.has('missing') && !others.has('any'))
})

test('what an instance knows of another changes once for each summary that the other publishes', () => {
  const { instances } = run({ instances: 2 })
  for (const own of instances) {
    const published = instances.filter((each) => each !== own).flatMap(({ askedForClaims }) => askedForClaims)
    const known = fleets(own).map(({ nodes, at }) => ({ at, rooms: rooms(nodes).join() }))
    const changes = known.filter((each, nth) => nth > 0 && each.rooms !== known[nth - 1]?.rooms)
    assert.ok(changes.length > 20, `${changes.length} changes`)
    const summaries = changes.map(({ at }) => published.filter((time) => time <= at).length)
    assert.ok((summaries[0] ?? 0) > 0)
    assert.equal(new Set(summaries).size, summaries.length)
  }
})

test('an instance hears where others run requests and where they load', () => {
  const { instances } = run()
  const seen = new Set(instances.flatMap((each) => fleets(each).flatMap(({ nodes }) => rooms(nodes))))
  assert.deepEqual([...seen].sort(), ['any', 'free', 'missing', 'none'])
})
