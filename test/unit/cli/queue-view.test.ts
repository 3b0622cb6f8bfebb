import assert from 'node:assert/strict'
import { test } from 'node:test'
import { estimateRow } from '../../../lib/admin/handlers/estimate.ts'
import type { QueueAnswer } from '../../../lib/api/queue.ts'
import { candidateTable, expectation } from '../../../lib/cli/views/estimate-view.ts'
import { queueView } from '../../../lib/cli/views/queue-view.ts'
import type { Candidate } from '../../../lib/scheduler/events.ts'
import { aCandidate } from '../../support/cli.ts'

const look = { wide: false, colour: false, width: null }

for (const [waits_for, starts_in_seconds, said] of [
  [null, 0, 'at once'],
  [null, 2, 'in 2.0s'],
  ['slot', 75, 'in 75s, when it has a slot'],
  ['load', 0, 'in 0.0s, when it has its model in memory'],
  // An instance of a newer version may name something else.
  ['moon' as 'load', 1, 'in 1.0s, when it has moon'],
  ['slot', null, 'not known: no node can take it now'],
] as const) {
  test(`a request that waits for ${waits_for} and starts in ${starts_in_seconds} s is said to start ${said}`, () => {
    assert.equal(expectation({ waits_for, starts_in_seconds }), said)
  })
}

test('of a fleet of many nodes the ten best places are told, to the millisecond, and that there are more', () => {
  const place: Candidate = {
    node: 'n',
    state: 'ready',
    start: 0,
    prefill: 0.12345,
    decode: 1 / 3,
    externality: 0,
    eviction: 0,
    cost: 2 / 3,
  }
  const candidates = Array.from({ length: 12 }, (_, n) => ({ ...place, node: `n${n}` }))
  const row = estimateRow({ candidates, waitsFor: null, predictedStart: 99.9, refused: null }, 100)
  assert.deepEqual([row.places, row.candidates.length, row.starts_in_seconds], [12, 10, 0])
  assert.deepEqual(row.candidates[0], {
    node: 'n0',
    state: 'ready',
    start_seconds: 0,
    prefill_seconds: 0.123,
    decode_seconds: 0.333,
    externality_seconds: 0,
    eviction_seconds: 0,
    cost_seconds: 0.667,
  })
  assert.match(candidateTable(row, look), /\nn9 .*\nand 2 nodes more\n$/)
})

test('an unknown state is shown as received', () => {
  const table = candidateTable({ places: 1, candidates: [aCandidate({ state: 'melting' as 'full' })] }, look)
  assert.match(table, /^gpu-a {2}melting /m)
})

test('a queue of many tenants names the largest, all with -o wide', () => {
  const by_tenant = Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`t${n}`, 20 - n]))
  const queue: QueueAnswer = { instance: 'a', total: 155, by_class: { x: 155 }, by_tenant, waiting: [] }
  assert.match(queueView(queue, look), /^by tenant +t0=20, .*, t7=13, and 2 more$/m)
  assert.match(queueView(queue, { ...look, wide: true }), /^by tenant +t0=20, .*, t9=11$/m)
})

test('foreign names cannot send control characters to the terminal', () => {
  const shown = candidateTable({ places: 1, candidates: [aCandidate({ node: 'a\u001b[2J' })] }, look)
  assert.ok(!shown.includes('\u001b'))
})
