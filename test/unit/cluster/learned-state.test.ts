import assert from 'node:assert/strict'
import { test } from 'node:test'
import { learnedIn, SharedLearning } from '../../../lib/cluster/leader/learned-state.ts'
import type { NodeStatus } from '../../../lib/fleet/node.ts'
import type { LearnedNode, LearnedState } from '../../../lib/scheduler/learning/learning.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { ClusterInstance, keys } from '../../support/cluster.ts'
import { aDocuments, aSnapshot } from '../../support/fleet.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const mean = (value: number, count = 10) => ({ mean: value, count })

function learned(secondsPerToken: number, runners = 1): LearnedNode {
  const pace = { decode: mean(secondsPerToken), prefill: mean(900), slots: 4 }
  return {
    speed: mean(0.3),
    disk: mean(2e9),
    runners: Object.fromEntries(
      Array.from({ length: runners }, (_, n) => [
        `model-${n}\n`,
        { ...pace, decode: mean(secondsPerToken, n) },
      ]),
    ),
  }
}

const ofNode = (node: LearnedNode): LearnedState => ({
  nodes: { n: node },
  outputs: { 'model-0': [10, 20, 30] },
})

/** What is stored of node n, as a leader's rounds leave it there. */
function publishing(first: LearnedState) {
  const clock = new VirtualClock()
  let state = first
  let stored: unknown
  let writes = 0
  const lessons = new SharedLearning({ learned: () => state, clock })
  const round = () => {
    lessons.compare(() => stored)
    const told = lessons.publishedOf('n', stored)
    if (told === stored) return
    writes++
    stored = JSON.parse(JSON.stringify(told))
  }
  /** `each` happens before every round. */
  const minute = async (each = (_second: number) => {}) => {
    for (let n = 0; n < 60; n++) {
      each(n)
      await clock.advance(1000)
      round()
    }
    return writes
  }
  return {
    minute,
    learn: (next: LearnedState) => {
      state = next
    },
    stored: () => stored,
  }
}

test('what was learned is published once a minute at most, and not again for a small change', async () => {
  const { minute, learn } = publishing(ofNode(learned(0.05)))
  assert.equal(await minute(), 1)
  learn(ofNode(learned(0.052)))
  assert.equal(await minute(), 1)
  learn(ofNode(learned(0.06)))
  assert.equal(await minute(), 2)
  const doubling = (second: number) => learn(ofNode(learned(0.06 * 2 ** second)))
  assert.equal(await minute(doubling), 3)
  learn({ nodes: {}, outputs: {} })
  assert.equal(await minute(), 3, 'who knows nothing of a node leaves what is known')
})

test('the first speeds of a model on a node are published within five seconds', async () => {
  const { minute, learn, stored } = publishing(ofNode(learned(0.05)))
  await minute()
  const models = () => Object.keys((stored() as LearnedNode).runners).length
  let publishedAt = 0
  await minute((second) => {
    if (second === 20) learn(ofNode(learned(0.05, 2)))
    if (models() === 2) publishedAt ||= second
  })
  assert(publishedAt > 20 && publishedAt <= 26, `second ${publishedAt}`)
})

test('a learned state stays below 16 KiB, and keeps the most used runners', async () => {
  const { minute, stored } = publishing(ofNode(learned(0.05, 1000)))
  await minute()
  assert(Buffer.byteLength(JSON.stringify(stored())) <= 16 * 1024)
  const { runners } = stored() as LearnedNode
  assert('model-999\n' in runners && !('model-1\n' in runners))
})

test('of hundreds of answers the shape of their lengths is kept', async () => {
  const outputs = { 'model-0': Array.from({ length: 400 }, (_, n) => n) }
  const { minute, stored } = publishing({ ...ofNode(learned(0.05)), outputs })
  await minute()
  const [first = 0, ...rest] = (stored() as LearnedState).outputs['model-0'] ?? []
  assert.equal(rest.length, 19)
  assert(first < 20 && (rest.at(-1) ?? 0) > 380)
})

test('a learned state that cannot be read is ignored', () => {
  const { nodes } = aSnapshot({ nodes: [{ name: 'n' }, { name: 'm' }] })
  const views = [...nodes.values()].map((node) => ({
    ...node,
    status: { ...(node.status as NodeStatus), learned: node.name === 'n' ? { speed: 'fast' } : undefined },
  }))
  assert.deepEqual(learnedIn(views), { nodes: {}, outputs: {} })
})

test('an instance that starts finds in its first snapshot what a leader had learned', async () => {
  const clock = new VirtualClock()
  const store = new MemoryStore(clock)
  const { nodes, statuses } = aDocuments({ nodes: [{ name: 'n', url: 'http://127.0.0.1:1' }] })
  const leader = new ClusterInstance(store, 'a', { learned: () => ofNode(learned(0.05)) })
  await leader.link.commit({
    when: [],
    apply: [
      { type: 'put', key: keys.node('n'), value: JSON.stringify({ url: nodes.get('n')?.url }) },
      { type: 'put', key: keys.nodeState('n'), value: JSON.stringify(statuses.get('n')) },
    ],
  })
  leader.cluster.start()
  await clock.advance(62_000)
  const stopped = leader.cluster.stop()
  await clock.advance(3000)
  await stopped

  const next = new ClusterInstance(store, 'b')
  let found: LearnedState | null = null
  next.snapshot.onSwap(() => {
    found ??= learnedIn(next.snapshot.get().nodes.values())
  })
  next.cluster.start()
  await clock.advance(1000)
  assert.deepEqual(found, ofNode(learned(0.05)))
  const left = next.cluster.stop()
  await clock.advance(3000)
  await left
})
