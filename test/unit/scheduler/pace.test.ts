import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Core } from '../../../lib/scheduler/core.ts'
import { aCore, aNode, aRequest, someTimings } from '../../support/core.ts'

/** The true speeds of a node, for all models. */
interface Truth {
  /** Of a lone stream. */
  readonly secondsPerToken: number
  readonly promptTokensPerS: number
  /** How much each further stream of a runner slows the others. */
  readonly slowdown: number
  /** Share of their speed that streams lose while their runner reads a prompt. */
  readonly stall: number
}

/** Requests for a model in sequence. Each one pauses, reads and writes for so many seconds. */
interface Lane {
  readonly model: string
  readonly pause: number
  readonly reads: number
  readonly writes: number
  /** Its answers come whole. */
  readonly isWhole?: boolean
}

interface Request {
  readonly id: string
  readonly lane: Lane
  isReading: boolean
  promptTokens: number
  outputTokens: number
}

/** Four times slower than both priors. */
const truth: Truth = { secondsPerToken: 4 / 60, promptTokensPerS: 1500 / 4, slowdown: 0.15, stall: 0.65 }

/** Feeds a core so many seconds of a node with the true speeds. */
function watch(lanes: readonly Lane[], seconds: number, is: Truth): Core {
  const models = { a: 5, b: 5 }
  const { core, clock, tell } = aCore([
    aNode({ slots: Math.max(8, lanes.length), models, loaded: ['a', 'b'] }),
  ])
  const running = new Set<Request>()
  const start = clock.now
  for (const { at, happens, request } of stepsOf(lanes, seconds)) {
    serve([...running], start + at - clock.now, is)
    clock.now = start + at
    const { id, lane } = request
    if (happens === 'begins') {
      running.add(request)
      const arriving = aRequest({
        id,
        model: lane.model,
        arrivedAt: clock.now,
        streams: !lane.isWhole,
        maxTokens: null,
      })
      assert.equal(tell({ type: 'arrived', request: arriving })[0]?.type, 'start')
    } else if (happens === 'writes') {
      request.isReading = false
      if (!lane.isWhole) tell({ type: 'first-token', id })
    } else {
      running.delete(request)
      const { promptTokens, outputTokens } = request
      const timings = { promptTokens, outputTokens, promptEval: lane.reads, eval: lane.writes }
      tell({ type: 'ended', id, timings: someTimings(timings) })
    }
  }
  return core
}

function stepsOf(lanes: readonly Lane[], seconds: number) {
  const steps = lanes.flatMap((lane, nth) => {
    const { pause, reads, writes } = lane
    const each = pause + reads + writes
    return Array.from({ length: Math.floor(seconds / each) }, (_, turn) => {
      const id = `${nth}.${turn}`
      const request: Request = { id, lane, isReading: true, promptTokens: 0, outputTokens: 0 }
      const at = turn * each + pause
      return [
        { at, happens: 'begins', request },
        { at: at + reads, happens: 'writes', request },
        { at: at + reads + writes, happens: 'ends', request },
      ]
    }).flat()
  })
  return steps.sort((a, b) => a.at - b.at)
}

/** Busy runners share the GPU equally, prompts share their runner equally, and streams slow each other. */
function serve(running: readonly Request[], seconds: number, is: Truth): void {
  const busy = new Set(running.map(({ lane }) => lane.model)).size
  for (const request of running) {
    const coRunning = running.filter(({ lane }) => lane.model === request.lane.model)
    const readers = coRunning.filter(({ isReading }) => isReading).length
    const slower = 1 + is.slowdown * (coRunning.length - readers - 1)
    const left = readers > 0 ? 1 - is.stall : 1
    if (request.isReading) request.promptTokens += (seconds * is.promptTokensPerS) / busy / readers
    else request.outputTokens += (seconds * left) / (is.secondsPerToken * slower * busy)
  }
}

/** Relative errors of the learned speeds of model a after so many seconds, with ten answers or more. */
function errors(lanes: readonly Lane[], seconds: number, is = truth) {
  const learned = watch(lanes, seconds, is).learned().nodes['n']?.runners['a\n']
  assert.ok(learned && learned.decode.count >= 10)
  const decode = learned.decode.mean / is.secondsPerToken - 1
  const prefill = learned.prefill.mean / is.promptTokensPerS - 1
  return { decode, prefill }
}

function assertWithin(share: number, { decode, prefill }: ReturnType<typeof errors>): void {
  assert.ok(Math.abs(decode) <= share, `decode is wrong by ${decode}`)
  assert.ok(Math.abs(prefill) <= share, `prefill is wrong by ${prefill}`)
}

const short: Lane = { model: 'a', pause: 0.3, reads: 0.01, writes: 4 }
const long: Lane = { model: 'a', pause: 3.7, reads: 0.01, writes: 11 }
const usual: Lane = { model: 'a', pause: 1.1, reads: 1, writes: 8 }
/** Its answers are too short to learn from. */
const reader: Lane = { model: 'a', pause: 2, reads: 3, writes: 0.1 }
const other: Lane = { model: 'b', pause: 3.7, reads: 2, writes: 6 }

suite('the speeds of a lone request are learned within 5 % from ten requests', () => {
  test('that ran alone', () => assertWithin(0.001, errors([usual], 110)))

  test('while streams come and go', () => assertWithin(0.05, errors([short, long], 45)))

  test('while the prompts of others are read', () => assertWithin(0.05, errors([usual, reader], 110)))

  test('while another runner alternates between busy and idle', () =>
    assertWithin(0.05, errors([usual, other], 110)))

  test('while the other runner answers whole, so that its phases are unknown', () =>
    assertWithin(0.05, errors([usual, { ...other, isWhole: true }], 110)))

  test('while all of that happens', () =>
    assertWithin(0.05, errors([usual, { ...reader, pause: 6 }, short, other], 40)))
})

suite('a node that differs from the priors', () => {
  test('teaches how much reading a prompt stalls its streams', () => {
    for (const stall of [0, 0.95])
      assertWithin(0.1, errors([usual, { ...reader, pause: 12 }], 600, { ...truth, stall }))
  })

  test('teaches how much streams slow each other', () => {
    // One stream and six streams alternate.
    const burst = Array.from({ length: 5 }, () => ({ ...long, pause: 25 }))
    assertWithin(0.1, errors([short, ...burst], 600, { ...truth, slowdown: 0.5 }))
  })
})

/** So many start within seconds, and each is followed by another: many slots are full, and stay full. */
const crowd = (size: number): Lane[] =>
  Array.from({ length: size }, (_, nth) => ({
    model: 'a',
    pause: 0.1 + (12 * nth) / size,
    reads: 0.1,
    writes: 15,
  }))

suite('a node that was always crowded', () => {
  for (const size of [8, 32, 100])
    test(`by ${size} streams does not look half as fast as it is`, () => {
      for (const slowdown of [0.05, 0.15, 0.33]) {
        const { decode } = errors(crowd(size), 60, { ...truth, slowdown })
        assert.ok(decode < 1, `${slowdown}: a lone stream is believed to take ${1 + decode} times as long`)
      }
    })
})

test('abandoned, failed and refused requests make no node look fast or slow', () => {
  const { core, clock, tell, arrive, after, end } = aCore([aNode({ slots: 8 })])
  const believed = () => {
    const asked = aRequest({ id: 'asked', maxTokens: 1, arrivedAt: clock.now })
    const { decode, prefill } = core.explain(asked, clock.now).candidates[0] ?? {}
    return [decode, prefill].map((seconds) => Number(seconds?.toFixed(9)))
  }
  const before = believed()
  for (let nth = 0; nth < 10; nth++) {
    arrive(
      { id: 'gone', streams: true },
      { id: 'fails', streams: true },
      { id: 'turned away', streams: true },
    )
    after(1, { type: 'first-token', id: 'fails' })
    tell({ type: 'left', id: 'gone' }, { type: 'ended', id: 'fails', timings: null })
    tell({ type: 'busy', id: 'turned away' }, { type: 'ended', id: 'turned away', timings: someTimings() })
    // Until then the node is busy with the prompt that "gone" left behind.
    after(0.5)
    arrive({ id: 'alone', streams: true })
    after(1000 / 1500, { type: 'first-token', id: 'alone' })
    after(100 / 60)
    end('alone')
  }
  assert.deepEqual(believed(), before)
})

suite('the prediction for the next request', () => {
  const expected = (core: Core, now: number) => {
    const [candidate] = core.explain(aRequest({ id: 'next', maxTokens: 1, arrivedAt: now }), now).candidates
    assert.ok(candidate)
    return candidate
  }

  test('includes stalls by prompts as often as others had them', () => {
    const held = watch([usual, reader], 100, truth)
    const free = watch([usual], 100, truth)
    // Prompts are read most of the time, and streams write at a third of their speed meanwhile.
    const slower = expected(held, 2000).decode / expected(free, 2000).decode
    assert.ok(slower > 1.3 && slower < 1.7, `${slower}`)
  })

  test('includes sharing the runner with a prompt that is being read', () => {
    const { core, clock, arrive, after } = aCore([aNode({ slots: 8 })])
    const alone = expected(core, clock.now).prefill
    arrive({ id: 'r', streams: true })
    assert.ok(Math.abs(expected(core, clock.now).prefill / alone - 1.5) < 1e-9)
    after(1, { type: 'first-token', id: 'r' })
    assert.ok(Math.abs(expected(core, clock.now).prefill / alone - 1) < 1e-9)
  })
})
