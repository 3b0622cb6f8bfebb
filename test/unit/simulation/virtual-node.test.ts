import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SwapEnd } from '../../../lib/simulation/fleet/virtual-node.ts'
import { aNode, type Heard } from '../../support/rehearsal.ts'

/** Equal but for what adding fractions costs. */
function near(actual: number | undefined, expected: number): void {
  assert.ok(Math.abs((actual ?? Number.NaN) - expected) < 1e-6, `${actual} is not ${expected}`)
}

function endsAt({ firstTokenAt, endedAt }: Heard, first: number, end: number): void {
  near(firstTokenAt, first)
  near(endedAt, end)
}

test('a request alone reads its prompt and writes its tokens at the speed of its model', () => {
  const { ask, until } = aNode({ loaded: 'a' })
  const { heard } = ask('a')
  until(100)
  endsAt(heard, 2, 7)
  assert.deepEqual(heard.timings, {
    total: 7,
    load: 0,
    promptEval: 2,
    eval: 5,
    promptTokens: 200,
    outputTokens: 50,
  })
})

test('a request for a model that is on disk only waits for it, and its load_duration says so', () => {
  const { ask, until, node } = aNode()
  const { heard } = ask('a')
  until(100)
  endsAt(heard, 13, 18)
  near(heard.timings?.load, 11)
  assert.deepEqual(node.loads, { all: 1, unordered: 1 })
})

test('two requests of one runner share its reading, and slow each other by 15 % as they write', () => {
  const { ask, until } = aNode({ loaded: 'a' })
  const both = [ask('a'), ask('a')]
  until(100)
  for (const { heard } of both) endsAt(heard, 4, 4 + 50 / (10 / 1.15))
})

test('while a runner reads a prompt, its streams write at 35 % of their speed', () => {
  const { ask, until, timeline } = aNode({ loaded: 'a' })
  const first = ask('a')
  let second = first
  timeline.at(2, () => {
    second = ask('a')
  })
  until(100)
  const together = (50 - 2 * 3.5) / (10 / 1.15)
  endsAt(first.heard, 2, 4 + together)
  endsAt(second.heard, 4, 4 + together + 7 / 10)
})

test('two busy runners get half of the GPU each, and the last all of it', () => {
  const { ask, until } = aNode({ loaded: 'ab' })
  const [a, b] = [ask('a'), ask('b')]
  until(100)
  endsAt(b.heard, 2, 7)
  endsAt(a.heard, 4, 7 + 35 / 10)
})

test('a third request waits for a slot, and Ollama does not count that as loading', () => {
  const { ask, until } = aNode({ loaded: 'a' })
  ask('a')
  ask('a')
  const { heard } = ask('a')
  until(100)
  near(heard.firstTokenAt, 4 + 5.75 + 2)
  const { total = 0, load, promptEval = 0, eval: evaluated = 0 } = heard.timings ?? {}
  assert.equal(load, 0)
  near(total - promptEval - evaluated, 4 + 5.75)
})

test('a request that waits for a load blocks the queue behind it, but no request for a model in memory', () => {
  const { ask, until } = aNode({ loaded: 'a', node: 'max_loaded: 1' })
  const [first, b, c] = [ask('a'), ask('b'), ask('c')]
  until(1)
  const late = ask('a', { promptTokens: 100, outputTokens: 1 })
  until(100)
  assert.ok((late.heard.endedAt ?? 99) < 7, 'served by the runner that is to go')
  const idleAt = first.heard.endedAt ?? Number.NaN
  near(b.heard.timings?.load, idleAt + 0.8 + 6)
  near(c.heard.timings?.load, (b.heard.endedAt ?? Number.NaN) + 0.8 + 6)
})

test('the victim is an idle model, and of several the one with the shortest keep-alive', () => {
  const busy = aNode({ node: 'max_loaded: 2' })
  busy.ask('a', { outputTokens: 1000 })
  busy.ask('b')
  busy.until(50)
  busy.ask('c')
  busy.until(60)
  assert.deepEqual(busy.resident(), ['a', 'c'])

  const idle = aNode({ node: 'max_loaded: 2' })
  idle.ask('a')
  idle.ask('b', { keepAlive: 100 })
  idle.until(50)
  idle.ask('c')
  idle.until(60)
  assert.deepEqual(idle.resident(), ['a', 'c'])
})

test('a model is evicted when there is no memory for another', () => {
  const roomy = aNode({ loaded: 'a', memory: 20 })
  roomy.ask('b')
  roomy.until(20)
  assert.deepEqual(roomy.resident(), ['a', 'b'])

  const tight = aNode({ loaded: 'a', memory: 18 })
  const { heard } = tight.ask('b')
  tight.until(20)
  assert.deepEqual(tight.resident(), ['b'])
  near(heard.timings?.load, 0.8 + 6)
})

test('an unused model leaves memory after five minutes', () => {
  const { ask, until, resident } = aNode()
  ask('a')
  until(18 + 299)
  assert.deepEqual(resident(), ['a'])
  until(18 + 301)
  assert.deepEqual(resident(), [])
})

test('a slot remembers its conversation', () => {
  const { ask, until } = aNode({ loaded: 'a' })
  ask('a', { conversation: 1 })
  ask('a', { conversation: 2 })
  until(50)
  const { heard } = ask('a', { conversation: 1, promptTokens: 300, reusableTokens: 250 })
  until(100)
  near(heard.firstTokenAt, 50.5)
  assert.equal(heard.timings?.promptTokens, 300, 'cached tokens are counted')
})

test('a prompt that a slot gave up is found in host memory, if the node has any', () => {
  const readingTime = (gigabytes: number) => {
    const { ask, until } = aNode({ loaded: 'a', node: `prompt_cache: ${gigabytes}` })
    for (const [index, conversation] of [1, 2, 3].entries()) {
      ask('a', { conversation })
      until(20 * (index + 1))
    }
    const { heard } = ask('a', { conversation: 1, reusableTokens: 150 })
    until(100)
    return heard.timings?.promptEval
  }
  near(readingTime(0), 2)
  near(readingTime(8), 0.5)
})

test('a caller that hangs up frees the slot at once and gets no more events', () => {
  const { ask, until } = aNode({ loaded: 'a' })
  const [gone, stays] = [ask('a'), ask('a')]
  const next = ask('a')
  until(3)
  gone.hangUp()
  gone.hangUp()
  until(100)
  assert.deepEqual(gone.heard, {})
  // 1.5 of 2 s are read; the other half of the reading is shared with the next in line.
  near(stays.heard.firstTokenAt, 4)
  near(next.heard.firstTokenAt, 5.5)
})

test('a caller that hangs up during a load wastes it: the next request loads from the start', () => {
  const { ask, until } = aNode()
  const gone = ask('a')
  const { heard } = ask('a')
  until(5)
  gone.hangUp()
  until(100)
  near(heard.firstTokenAt, 5 + 11 + 2)
})

test('a model is not loaded for a caller that hung up in the queue', () => {
  const { ask, until, node, resident } = aNode()
  ask('a')
  const gone = ask('b')
  until(5)
  gone.hangUp()
  until(100)
  assert.deepEqual(gone.heard, {})
  assert.deepEqual([resident(), node.loads.all], [['a'], 1])
})

test('the 513th request that waits for a load gets the answer that the queue is full', () => {
  const { ask } = aNode()
  const all = Array.from({ length: 514 }, () => ask('a'))
  assert.equal(
    all.findIndex(({ heard }) => heard.busy),
    513,
    'one is being loaded for, 512 wait',
  )
})

test('a swap unloads its victims, loads its model and reports the seconds of the load', () => {
  const { node, until, resident } = aNode({ loaded: 'ab', node: 'max_loaded: 2' })
  let took: number | null = null
  const onEnd = ({ loadS }: SwapEnd) => {
    took = loadS
  }
  node.swap({ victims: ['a'], model: 'c', onEnd })
  until(0.5)
  assert.deepEqual(resident(), ['b'])
  until(10)
  assert.deepEqual(resident(), ['b', 'c'])
  near(took ?? 0, 6)
  assert.deepEqual(node.loads, { all: 1, unordered: 0 })
})

test('a node that dies fails all its requests, and all later ones', () => {
  const { node, ask, until } = aNode({ loaded: 'a', node: 'max_loaded: 1' })
  const all = [ask('a'), ask('a'), ask('a'), ask('b'), ask('c')]
  until(3)
  node.kill()
  all.push(ask('a'))
  until(400)
  for (const { heard } of all) {
    assert.equal(heard.timings, null)
    assert.equal(heard.endedAt, 3)
  }
  assert.equal(node.facts().available, false)
})

test('a node that dies before a victim has left reports that the swap failed', () => {
  const { node, ask, until } = aNode({ loaded: 'a' })
  ask('a')
  const ends: (number | null)[] = []
  node.swap({ victims: ['a'], model: 'b', onEnd: ({ loadS }) => ends.push(loadS) })
  until(3)
  node.kill()
  until(100)
  assert.deepEqual(ends, [null])
})

test('a swap whose victim is kept busy for 10 s loads nothing and says what stayed', () => {
  const { node, ask, until, timeline, resident } = aNode({ loaded: 'a', node: 'max_loaded: 1' })
  const { heard } = ask('a', { outputTokens: 200 })
  let end: (SwapEnd & { readonly at: number }) | null = null
  const onEnd = (told: SwapEnd) => {
    end = { ...told, at: timeline.now }
  }
  node.swap({ victims: ['a'], model: 'b', onEnd })
  until(60)
  assert.deepEqual(end, { loadS: null, kept: ['a'], at: 10 })
  near(heard.endedAt ?? 0, 22)
  assert.deepEqual([resident(), node.loads.all], [[], 0], 'the victim still leaves once it is idle')
})

test('requests beyond the slots of a model are counted, waiting ones too, and those to a victim; loads are not', () => {
  const { node, ask, until } = aNode({ loaded: 'ab', node: 'max_loaded: 2' })
  ask('a')
  ask('a')
  assert.deepEqual(node.sent, { all: 2, toVictims: 0, beyondSlots: 0 })
  ask('a')
  ask('c')
  ask('c')
  ask('c')
  assert.deepEqual(node.sent, { all: 6, toVictims: 0, beyondSlots: 2 })
  node.swap({ victims: ['b'], model: 'c', onEnd: () => {} })
  ask('b')
  assert.deepEqual(node.sent, { all: 7, toVictims: 1, beyondSlots: 2 })
  until(100)
  ask('a')
  assert.deepEqual(node.sent, { all: 8, toVictims: 1, beyondSlots: 2 })
})

test('a node that becomes slower stays slower', () => {
  const { node, ask, until } = aNode({ loaded: 'a' })
  const { heard } = ask('a')
  until(3)
  node.slowDown(8)
  until(100)
  endsAt(heard, 2, 3 + 40 / (10 / 8))
})
