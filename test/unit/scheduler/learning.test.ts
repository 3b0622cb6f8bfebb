import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { SchedulerEvent, Timings } from '../../../lib/scheduler/events.ts'
import { aCore, aNode, aRequest, type Changes, someTimings, without } from '../../support/core.ts'

const patience: Changes = { admission: { tenantS: 1e6, leastLimitS: 1e6, maxWaitS: 1e6 } }
const models = { a: 5, b: 10 }

type Cluster = ReturnType<typeof aCore>

/** Serves requests for a model on the only node, one after the other. */
function serve({ arrive, end, after }: Cluster, model: string, each: readonly Partial<Timings>[]): void {
  for (const [nth, timings] of each.entries()) {
    const id = `${model}${nth}`
    arrive({ id, model })
    after(1)
    end(id, timings)
  }
}

const repeat = <Value>(count: number, value: Value): Value[] => Array.from({ length: count }, () => value)

/** Expected decode seconds per token, and prefill seconds per prompt token, of a lone request. */
function expected({ core, clock }: Cluster, model = 'a', node = 'n') {
  const request = aRequest({ id: 'asked', model, maxTokens: 1, promptTokens: 1000 })
  const candidate = core.explain(request, clock.now).candidates.find((each) => each.node === node)
  assert.ok(candidate)
  return { perToken: candidate.decode, prefill: candidate.prefill / 1000, start: candidate.start }
}

function near(actual: number, wanted: number, tolerance: number): void {
  assert.ok(Math.abs(actual / wanted - 1) <= tolerance, `${actual} is not within ${tolerance} of ${wanted}`)
}

suite('learning', () => {
  test('after ten answers speeds are known within 15 %', () => {
    const cluster = aCore([aNode()], patience)
    // Decode is four times slower than the prior, prefill three times.
    serve(cluster, 'a', repeat(10, { promptEval: 2, eval: 100 / 15 }))
    near(expected(cluster).perToken, 1 / 15, 0.15)
    near(expected(cluster).prefill, 2 / 1000, 0.15)
  })

  test('the prior of a new model on a node follows the speed of the other models there', () => {
    const cluster = aCore([aNode({ models, loaded: ['a', 'b'] })], patience)
    serve(cluster, 'a', repeat(3, { eval: 100 / 15 }))
    // 10 GB at a quarter of 30 tokens/s.
    near(expected(cluster, 'b').perToken, 4 / 30, 0.01)
  })

  test('a single sample is averaged with the prior, which weighs three', () => {
    const cluster = aCore([aNode()], { ...patience, learning: { speedMemory: 1e9 } })
    serve(cluster, 'a', [{ eval: 100 / 15 }])
    // The prior follows the node's speed, which comes from this sample alone: both are equal.
    near(expected(cluster).perToken, 1 / 15, 0.01)
  })

  test('a failed request teaches nothing, even if it fails fast', () => {
    const cluster = aCore([aNode()], patience)
    const before = expected(cluster)
    for (let nth = 0; nth < 20; nth++) {
      cluster.arrive({ id: `${nth}` })
      cluster.tell({ type: 'ended', id: `${nth}`, timings: null })
    }
    assert.deepEqual(expected(cluster), before)
  })

  test('an answer of three tokens says nothing about decoding', () => {
    const cluster = aCore([aNode()], patience)
    const before = expected(cluster).perToken
    serve(cluster, 'a', repeat(5, { outputTokens: 3, eval: 60 }))
    assert.equal(expected(cluster).perToken, before)
  })

  test('a prompt that was cached does not make the node look fast', () => {
    const cluster = aCore([aNode()], patience)
    const prefixes = [{ hash: 1, tokens: 900 }]
    const before = expected(cluster).prefill
    for (let nth = 0; nth < 12; nth++) {
      cluster.arrive({ id: `${nth}`, prefixes })
      cluster.after(1)
      // The first prompt is read whole; of the others only the last 100 tokens.
      cluster.end(`${nth}`, { promptEval: nth === 0 ? 1000 / 1500 : 100 / 1500 })
    }
    near(expected(cluster).prefill, before, 0.15)
  })

  test('a node that counts only evaluated tokens shows whether a prompt was cached or not', () => {
    const prefixes = [{ hash: 1, tokens: 900 }]
    const old = () => aCore([{ ...aNode(), countsEvaluated: true }], patience)
    const ask = (cluster: Cluster, evaluated: number) => {
      for (let nth = 0; nth < 12; nth++) {
        const promptTokens = nth === 0 ? 1000 : evaluated
        cluster.arrive({ id: `${nth}`, prefixes })
        cluster.after(1)
        cluster.end(`${nth}`, { promptTokens, promptEval: promptTokens / 1500 })
      }
      const { candidates } = cluster.core.explain(aRequest({ id: 'next', prefixes }), cluster.clock.now)
      return candidates[0]?.prefill ?? 0
    }
    near(ask(old(), 100), 100 / 1500, 0.05)
    const forgotten = old()
    near(ask(forgotten, 1000), (1000 - 900 * (3 / 14)) / 1500, 0.05)
    near(expected(forgotten).prefill, 1 / 1500, 0.05)
  })

  test('if a node reports cached tokens, its speed is that of the remaining tokens (374)', () => {
    const prefixes = [{ hash: 1, tokens: 900 }]
    const learned = (cachedTokens?: number) => {
      const cluster = aCore([aNode()], patience)
      for (let nth = 0; nth < 12; nth++) {
        cluster.arrive({ id: `${nth}` })
        cluster.after(1)
        const cached = cachedTokens !== undefined && { cachedTokens }
        cluster.end(`${nth}`, { promptTokens: 1000, promptEval: 100 / 1500, ...cached })
      }
      return expected(cluster).prefill
    }
    near(learned(900), 1 / 1500, 0.1)
    assert.ok(learned() < 0.5 / 1500, 'without a report the cached part is unknown')

    const told = aCore([aNode()], patience)
    for (let nth = 0; nth < 12; nth++) {
      told.arrive({ id: `${nth}`, prefixes })
      told.after(1)
      told.end(`${nth}`, {
        promptTokens: 1000,
        cachedTokens: nth === 0 ? 0 : 900,
        promptEval: (nth === 0 ? 1000 : 100) / 1500,
      })
    }
    const { candidates } = told.core.explain(aRequest({ id: 'next', prefixes }), told.clock.now)
    near(candidates[0]?.prefill ?? 0, 100 / 1500, 0.05)
  })

  test('co-running streams explain a slow answer', () => {
    const cluster = aCore([aNode({ slots: 4 })], patience)
    for (let round = 0; round < 5; round++) {
      const ids = [0, 1, 2, 3].map((nth) => `${round}.${nth}`)
      cluster.arrive(...ids.map((id) => ({ id })))
      cluster.after(1)
      for (const id of ids) cluster.end(id, { eval: (100 / 60) * (1 + 0.15 * 3) })
    }
    near(expected(cluster).perToken, 1 / 60, 0.05)
  })

  test('loads teach the speed of the disk', () => {
    const cluster = aCore([aNode({ models: { a: 5 }, loaded: [] })], patience)
    cluster.arrive({ id: 'r' })
    cluster.tell({ type: 'swapped', node: 'n', model: 'a', ok: true, loadS: 11 })
    cluster.tell({ type: 'left', id: 'r' })
    cluster.after(10, { type: 'fleet', nodes: [aNode({ models: { a: 5 }, loaded: [] })] })
    // The disk reads half a GB per second.
    near(expected(cluster).start, 11, 0.001)
  })

  test("the length of answers is learned, and capped by the caller's limit", () => {
    const cluster = aCore([aNode()], patience)
    serve(cluster, 'a', repeat(20, { outputTokens: 60, eval: 1 }))
    const decodeOf = (maxTokens: number | null) =>
      cluster.core.explain(aRequest({ id: 'x', maxTokens }), cluster.clock.now).candidates[0]?.decode ?? 0
    near(decodeOf(null) / expected(cluster).perToken, 60, 0.001)
    near(decodeOf(10) / expected(cluster).perToken, 10, 0.001)
  })

  test('without speed learning all nodes count as equal', () => {
    const cluster = aCore([aNode()], { ...patience, ...without('speed') })
    const before = expected(cluster)
    serve(cluster, 'a', repeat(10, { promptEval: 2, eval: 7 }))
    assert.deepEqual(expected(cluster), before)
  })

  test('another core starts with the learned state of the first', () => {
    const first = aCore([aNode()], patience)
    serve(first, 'a', repeat(10, { promptEval: 2, eval: 100 / 15, outputTokens: 100 }))
    const second = aCore([aNode()], patience)
    second.core.restore(JSON.parse(JSON.stringify(first.core.learned())))
    assert.deepEqual(expected(second), expected(first))
  })

  test('a decision is kept with the predicted and the actual time to the first token', () => {
    const cluster = aCore([aNode()], patience)
    cluster.arrive({ id: 'r' })
    cluster.after(3, { type: 'first-token', id: 'r' })
    const [decision] = cluster.core.decisions()
    assert.equal(decision?.id, 'r')
    assert.equal(decision?.ttft, 3)
    near(decision?.decision?.ttft ?? 0, 1000 / 1500 + 1 / 60, 0.001)
  })
})

suite('the decision log', () => {
  const one = (id: string) => ({ id, tenant: id })
  const logged = ({ core }: ReturnType<typeof aCore>) =>
    Object.fromEntries(core.decisions().map(({ id, outcome, ttft }) => [id, [outcome, ttft]]))

  test('records the outcome of each request, sent or not', () => {
    const scene = aCore([aNode({ slots: 4 })], {
      ...patience,
      admission: { ...patience.admission, maxQueued: 1 },
    })
    const { arrive, after, end, tell } = scene
    arrive(...['answered', 'failed', 'busy', 'gone'].map(one))
    arrive(one('leaves'))
    arrive(one('refused'))
    after(2, { type: 'left', id: 'leaves' })
    arrive(one('cancelled'))
    tell({ type: 'left', id: 'cancelled', why: 'cancelled' })
    tell({ type: 'ended', id: 'failed', timings: null })
    tell({ type: 'busy', id: 'busy' }, { type: 'first-token', id: 'gone' }, { type: 'left', id: 'gone' })
    end('answered')
    assert.deepEqual(
      Object.fromEntries(Object.entries(logged(scene)).map(([id, [outcome]]) => [id, outcome])),
      {
        answered: 'answered',
        failed: 'failed',
        busy: 'busy',
        gone: 'left',
        leaves: 'left',
        refused: 'queue-full',
        cancelled: 'cancelled',
      },
    )
  })

  test('records the first token of a whole answer as the node timed it, or nothing if that is unknown', () => {
    const scene = aCore([aNode({ slots: 3 })], patience)
    const { arrive, after, end, tell } = scene
    arrive(one('whole'), one('seen from outside'), one('untimed'))
    after(9)
    end('whole', { load: 1, promptEval: 2, eval: 5, total: 8.5 })
    end('seen from outside', { fromOutside: true })
    tell({ type: 'ended', id: 'untimed', timings: null, written: 50 })
    assert.deepEqual(logged(scene), {
      whole: ['answered', 3.5],
      'seen from outside': ['answered', null],
      untimed: ['answered', null],
    })
  })

  test('keeps served requests in a storm of refusals', () => {
    const scene = aCore([aNode()], { ...patience, admission: { ...patience.admission, maxQueued: 0 } })
    scene.arrive(one('served'))
    for (let nth = 0; nth < 1500; nth++) scene.arrive(one(`r${nth}`))
    const decisions = scene.core.decisions()
    assert.equal(decisions.length, 1001)
    assert.ok(decisions.some(({ id }) => id === 'served'))
  })
})

/** The same with one slot per runner. */
function learnedOne(core: Cluster['core']) {
  const nodes = Object.entries(core.learned().nodes).map(([name, { runners, ...node }]) => {
    const each = Object.entries(runners).map(([key, runner]) => [key, { ...runner, slots: 1 }] as const)
    return [name, { ...node, runners: Object.fromEntries(each) }] as const
  })
  return Object.fromEntries(nodes)
}

suite('slots without a configured number', () => {
  const node = aNode({ slots: null })
  const flood = (cluster: Cluster) =>
    cluster.arrive(...Array.from({ length: 40 }, (_, nth) => ({ id: `waits${nth}` })))

  /** Ends the running requests with so many seconds of waiting on the node; returns how many run then. */
  function turn(cluster: Cluster, running: string[], waitS: number): void {
    const id = running.shift()
    assert.ok(id !== undefined)
    cluster.clock.now += 1
    const { promptEval, eval: decode } = someTimings()
    for (const effect of cluster.end(id, { total: promptEval + decode + waitS }))
      if (effect.type === 'start') running.push(effect.id)
  }

  function begin(): { cluster: Cluster; running: string[] } {
    const cluster = aCore([node], { ...patience, otherClass: { rank: 0, ttftS: 5, limitS: 1e6 } })
    const running = flood(cluster).flatMap((effect) => (effect.type === 'start' ? [effect.id] : []))
    return { cluster, running }
  }

  test('start at one', () => {
    assert.equal(begin().running.length, 1)
  })

  test('grow by one after eight answers that did not wait on the node', () => {
    const { cluster, running } = begin()
    for (let nth = 0; nth < 7; nth++) turn(cluster, running, 0.01)
    assert.equal(running.length, 1)
    turn(cluster, running, 0.01)
    assert.equal(running.length, 2)
  })

  test('shrink when a request waited there, and do not grow again for ten minutes', () => {
    const { cluster, running } = begin()
    for (let nth = 0; nth < 8; nth++) turn(cluster, running, 0.01)
    // The first of the two was alone when it began, and is no evidence.
    turn(cluster, running, 1.5)
    assert.equal(running.length, 2)
    turn(cluster, running, 1.5)
    assert.equal(running.length, 1)
    for (let nth = 0; nth < 12; nth++) turn(cluster, running, 0.01)
    assert.equal(running.length, 1)
    cluster.clock.now += 600
    for (let nth = 0; nth < 8; nth++) turn(cluster, running, 0.01)
    assert.equal(running.length, 2)
  })

  /** Starts with four slots; ten times four requests at once, and each waits so long on the node. */
  function four(waitS: number, { streams = true } = {}) {
    const cluster = aCore([aNode({ slots: null })], { ...patience, slots: { initial: 4 } })
    const { core, arrive, after, end } = cluster
    const { promptEval, eval: decode } = someTimings()
    const running: string[] = []
    const note = (effects: ReturnType<typeof arrive>) => {
      for (const effect of effects) if (effect.type === 'start') running.push(effect.id)
    }
    for (let nth = 0; nth < 10; nth++) {
      for (const which of [0, 1, 2, 3]) note(arrive({ id: `${nth}.${which}`, streams, maxTokens: null }))
      for (let id = running.shift(); id !== undefined; id = running.shift()) {
        note(after(waitS + promptEval, ...(streams ? [{ type: 'first-token', id } as const] : [])))
        note(end(id, { total: waitS + promptEval + decode }))
      }
    }
    return { cluster, count: core.slots('n', aRequest()) ?? 0 }
  }

  for (const waitS of [0.1, 0.3, 0.4])
    for (const streams of [true, false])
      test(`stay the same when requests wait ${waitS} s for a batch of another prompt, ${streams ? 'streamed' : 'whole'} (362)`, () => {
        assert.equal(four(waitS, { streams }).count, 4)
      })

  test('shrink when requests wait longer than a batch takes (362)', () => {
    assert.ok(four(3).count < 4)
  })

  test('follow a configured number from the moment it is set, despite what was learned (362)', () => {
    const { cluster, count } = four(3)
    const { core } = cluster
    assert.ok(count < 4)
    cluster.tell({ type: 'fleet', nodes: [aNode({ slots: 8 })] })
    for (let nth = 0; nth < 8; nth++) cluster.arrive({ id: `x${nth}` })
    assert.equal(core.queued().length, 0)
    cluster.tell({ type: 'fleet', nodes: [aNode({ slots: 6 })] })
    assert.equal(core.slots('n', aRequest()), 6)
    const restored = aCore([aNode({ slots: 8 })], patience)
    restored.core.restore({ ...core.learned(), nodes: learnedOne(core) })
    assert.equal(restored.core.slots('n', aRequest()), 8)
  })

  test('are halved when the node answers that it is full, also if configured', () => {
    const cluster = aCore([aNode({ slots: 4 })], patience)
    cluster.arrive(...[1, 2, 3, 4].map((nth) => ({ id: `${nth}` })))
    const rest: SchedulerEvent[] = [2, 3, 4].map((nth) => ({ type: 'left', id: `${nth}` }))
    cluster.tell({ type: 'busy', id: '1' }, ...rest)
    assert.equal(cluster.arrive(...[5, 6, 7, 8].map((nth) => ({ id: `${nth}` }))).length, 2)
  })

  /** How many of sixteen slots are left after the node refused so many requests at one time. */
  const leftAfter = (running: number, refusals: number) => {
    const ids = Array.from({ length: running }, (_, nth) => `${nth}`)
    const cluster = aCore([aNode({ slots: 16 })], patience)
    cluster.arrive(...ids.map((id) => ({ id })))
    cluster.after(1)
    cluster.tell(...ids.map((id, nth) => ({ type: nth < refusals ? 'busy' : 'left', id }) as const))
    return cluster.arrive(...Array.from({ length: 20 }, (_, nth) => ({ id: `next${nth}` }))).length
  }

  test('are halved once, even if the node refuses many requests at one time', () => {
    assert.equal(leftAfter(16, 16), 8)
  })

  test('stay when the node answers that it is full with less than half of them in use', () => {
    assert.equal(leftAfter(8, 1), 8)
    assert.equal(leftAfter(7, 1), 16)
  })
})
