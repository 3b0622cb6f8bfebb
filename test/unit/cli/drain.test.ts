import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NodeAnswer } from '../../../lib/api/nodes.ts'
import { CliFailure, exits } from '../../../lib/cli/cli-failure.ts'
import { seenNode, waitUntilIdle } from '../../../lib/cli/commands/drain.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

function aNode(running: Record<string, number>, state: NodeAnswer['state'] = 'cordoned'): NodeAnswer {
  return {
    name: 'gpu-b',
    url: 'http://gpu-b:11434',
    state,
    health: 'up',
    reason: '',
    since: null,
    weight: 1,
    slots: 1,
    slots_by_model: {},
    labels: {},
    source: 'operator',
    version: '0.15.0',
    running: Object.values(running).reduce((sum, count) => sum + count, 0),
    running_by_instance: running,
    breaker: 'closed',
    frozen: false,
    loaded: [],
    models: [],
    vram_bytes: 0,
    rejected: [],
  }
}

/** Drains a node that looks as `at(second)` says, in virtual time. */
async function drain(at: (second: number) => NodeAnswer | CliFailure, timeoutMs = 300_000) {
  const clock = new VirtualClock()
  const lines: string[] = []
  const stop = new AbortController()
  const look = async () => {
    const seen = at(clock.now() / 1000)
    if (seen instanceof CliFailure) throw seen
    return seenNode(seen)
  }
  const done = waitUntilIdle({
    name: 'gpu-b',
    clock,
    signal: stop.signal,
    timeoutMs,
    look,
    progress: (line) => lines.push(line),
    late: {
      state: 'cordoned',
      hint: 'llamero node drain gpu-b (waits again), or llamero node uncordon gpu-b',
    },
  }).then(
    (tookMs) => ({ tookMs, failure: null }),
    (failure: CliFailure) => ({ tookMs: null, failure }),
  )
  await clock.runUntilIdle()
  return { ...(await done), lines }
}

test("each change of the drain's state is reported once", async () => {
  const { lines } = await drain((second) => {
    if (second < 5) return aNode({ b: 1, a: 1, c: 0 })
    return aNode(second < 8 ? { a: 1 } : {})
  })
  assert.deepEqual(lines, [
    'gpu-b: 2 requests running on instances a, b',
    'gpu-b: 1 request running on instance a',
    'gpu-b: no requests running; waiting until every instance has seen the cordon',
  ])
})

test('a node counts as drained only after 3 s of quiet, because counts and the cordon travel', async () => {
  assert.equal((await drain(() => aNode({}))).tookMs, 3000)
  const late = await drain((second) => aNode(second === 2 ? { c: 1 } : {}))
  assert.equal(late.tookMs, 6000)
})

test('an idle node does not count as drained before its cordon is in force', async () => {
  const { tookMs, lines } = await drain((second) => aNode({}, second < 4 ? 'active' : 'cordoned'))
  assert.equal(tookMs, 7000)
  assert.equal(lines[0], 'gpu-b: the cordon is not in force yet')
})

test('a node that stays busy ends the wait at the timeout with what it waited for', async () => {
  const { failure } = await drain(() => aNode({ a: 2 }), 4500)
  assert.equal(failure?.exit, exits.timedOut)
  assert.equal(failure?.message, 'gpu-b: 2 requests running on instance a after 4.5s; it stays cordoned')
  assert.match(failure?.hint ?? '', /llamero node uncordon gpu-b/)
})

test('an admin listener that is briefly out of reach does not end the wait, and does not count as idle', async () => {
  const away = new CliFailure(exits.unavailable, 'cannot reach http://x')
  const { tookMs, lines } = await drain((second) => (second === 2 ? away : aNode({})))
  assert.equal(tookMs, 6000)
  assert.ok(lines.includes('gpu-b: cannot reach http://x'))
})

test('a node removed meanwhile ends the wait', async () => {
  const gone = new CliFailure(exits.notFound, 'no node named "gpu-b"')
  assert.equal((await drain((second) => (second < 2 ? aNode({ a: 1 }) : gone))).failure, gone)
})
