import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { answerTo } from '../../../lib/simulation/http/dialects/answer.ts'
import { type GenerationTimings, generate } from '../../../lib/simulation/http/dialects/generation.ts'
import { readChat, readGenerate } from '../../../lib/simulation/http/dialects/request.ts'
import { aModel, type ModelDefinition } from '../../../lib/simulation/http/disk/model-definition.ts'
import { fingerprintOf } from '../../../lib/simulation/http/engine/fingerprint.ts'
import { PacedRunner } from '../../../lib/simulation/http/engine/paced-runner.ts'
import { Pacer } from '../../../lib/simulation/http/engine/pacer.ts'
import { enterSlot } from '../../../lib/simulation/http/engine/slots.ts'
import { countTokens, embeddingOf } from '../../../lib/simulation/http/engine/tokens.ts'

const talker = aModel({ name: 'talker', promptTps: 1000, decodeTps: 50, text: 'one two three four' })

/** A loaded runner on a virtual clock; `say` generates the answer to a prompt and tells when each piece came. */
function aRunner(model: ModelDefinition, { vramShare = 1, parallel = 4, speed = 1 } = {}) {
  const clock = new VirtualClock()
  const shape = { model, fingerprint: fingerprintOf({}, true), ctx: 4096, parallel, sizeMiB: 1000 }
  const runner = new PacedRunner(
    { ...shape, vramMiB: 1000 * vramShare },
    { clock, keepAliveMs: 60_000, onExpired() {} },
  )
  function start(prompt: string, options: Record<string, unknown> = {}) {
    const pieces: [number, string][] = []
    const leaving = new AbortController()
    const answer = answerTo(model, readGenerate({ model: model.name, prompt, raw: true, options }))
    let cached = 0
    const run = async (): Promise<GenerationTimings> => {
      using slot = await enterSlot(runner.slots, prompt, leaving.signal)
      return await generate({
        runner,
        slot,
        prompt,
        promptTokens: countTokens(prompt),
        answer,
        clock,
        pacer: new Pacer(clock, leaving.signal),
        speed,
        emit: ({ text }) => void pieces.push([clock.now(), text]),
        onCached: (tokens) => {
          cached = tokens
        },
      })
    }
    return { timings: run(), pieces, leaving, cached: () => cached }
  }
  return { clock, runner, start }
}

test('the prompt is read first, then a token comes at each tick of the decode speed', async () => {
  const { clock, start } = aRunner(talker)
  const { timings, pieces } = start('x'.repeat(400))
  await clock.runUntilIdle()
  assert.deepEqual(pieces, [
    [120, 'one '],
    [140, 'two '],
    [160, 'three '],
    [180, 'four'],
  ])
  assert.deepEqual(await timings, {
    promptTokens: 100,
    cachedTokens: 0,
    promptMs: 100,
    tokens: 4,
    decodeMs: 80,
  })
})

test('what a conversation has in common with an earlier one is not read again', async () => {
  const { clock, start } = aRunner(talker)
  const first = start('x'.repeat(400))
  await clock.runUntilIdle()
  const next = start(`${'x'.repeat(400)}one two three four${'y'.repeat(82)}`)
  await clock.runUntilIdle()
  assert.equal(first.cached(), 0)
  assert.equal(next.cached(), 104, '418 characters of prompt and answer')
  assert.deepEqual(await next.timings, {
    promptTokens: 125,
    cachedTokens: 104,
    promptMs: 21,
    tokens: 4,
    decodeMs: 80,
  })
  const same = start('x'.repeat(400))
  await clock.runUntilIdle()
  assert.equal((await same.timings).promptMs, 1, 'one token is always computed')
})

test('each further active slot slows every answer down', async () => {
  const { clock, start } = aRunner(talker)
  const both = [start('aaaa'), start('bbbb')]
  await clock.runUntilIdle()
  for (const { timings } of both) assert.equal((await timings).decodeMs, 4 * 20 * 1.35)
})

test('slots are given first come, first served, and a waiter that leaves frees its place at once', async () => {
  const { clock, start } = aRunner(talker, { parallel: 1 })
  const [first, second, third] = [start('aaaa'), start('bbbb'), start('cccc')]
  second.leaving.abort(new Error('gone'))
  await assert.rejects(second.timings, /gone/)
  await clock.runUntilIdle()
  assert.equal(first.pieces.at(-1)?.[0], 81)
  assert.equal(third.pieces.at(-1)?.[0], 162)
})

test('a client that leaves stops the answer and frees its slot, also while the prompt is read', async () => {
  const { clock, runner, start } = aRunner(talker, { parallel: 1 })
  for (const leaveAt of [5, 50]) {
    const { timings, pieces, leaving } = start('z'.repeat(4 * leaveAt))
    await clock.advance(leaveAt)
    leaving.abort(new Error('gone'))
    await assert.rejects(timings, /gone/)
    assert.equal(runner.slots.active, 0)
    assert.equal(clock.nextTimerAt(), null)
    assert.deepEqual(pieces, [])
  }
})

test('a model half in VRAM is slower in proportion, and the node speed multiplies', async () => {
  const elapsed = async (given: Parameters<typeof aRunner>[1]) => {
    const { clock, start } = aRunner(talker, given)
    const { timings } = start('x'.repeat(400))
    await clock.runUntilIdle()
    const { promptMs, decodeMs } = await timings
    return [promptMs, decodeMs]
  }
  assert.deepEqual(await elapsed({ vramShare: 0 }), [800, 640])
  assert.deepEqual(await elapsed({ vramShare: 0.5 }), [450, 360])
  assert.deepEqual(await elapsed({ speed: 2 }), [50, 40])
})

test('speeds of 0 and Infinity take no time at all', async () => {
  for (const tps of [0, Number.POSITIVE_INFINITY]) {
    const { start } = aRunner({ ...talker, promptTps: tps, decodeTps: tps })
    const { timings } = start('hello', { x_fake: { outTokens: 100 } })
    assert.deepEqual(await timings, {
      promptTokens: 2,
      cachedTokens: 0,
      promptMs: 0,
      tokens: 100,
      decodeMs: 0,
    })
  }
})

test('num_predict cuts the answer, and a stop string ends it even across two tokens', () => {
  const answer = (options: object) => {
    const { content, doneReason } = answerTo(talker, readGenerate({ model: 'talker', prompt: 'p', options }))
    return [content.join(''), doneReason]
  }
  assert.deepEqual(answer({ num_predict: 2 }), ['one two ', 'length'])
  assert.deepEqual(answer({ num_predict: 4 }), ['one two three four', 'stop'])
  assert.deepEqual(answer({ num_predict: -1 }), ['one two three four', 'stop'])
  assert.deepEqual(answer({ stop: ['nine', 'o thr'] }), ['one tw', 'stop'])
})

test('x_fake decides length, thinking, tool call and failure; the same wish gives the same text', () => {
  const thinker = aModel({ name: 'thinker', capabilities: ['completion', 'tools', 'thinking'] })
  const body = (x_fake: object, more: object = {}) =>
    readChat({ model: 'm', messages: [{ role: 'user', content: 'hi' }], options: { x_fake }, ...more })
  const long = answerTo(thinker, body({ outTokens: 500, thinkTokens: 7, failAt: 3 }))
  assert.deepEqual([long.content.length, long.thinking.length, long.failure?.after], [500, 7, 3])
  assert.deepEqual(answerTo(thinker, body({ outTokens: 500, thinkTokens: 7, failAt: 3 })), long)
  assert.equal(answerTo(thinker, body({ thinkTokens: 7 }, { think: false })).thinking.length, 0)
  const call = { name: 'weather', arguments: { city: 'Bern' } }
  assert.deepEqual(answerTo(thinker, body({ toolCall: call }, { tools: [{}] })).toolCall, call)
  assert.equal(answerTo(thinker, body({ toolCall: call })).toolCall, null, 'no tools were offered')
  assert.equal(answerTo(thinker, body({ outTokens: 1e15 })).content.length, 1_000_000)
})

test('the default answer depends on the model and the question alone, and says that it is simulated', () => {
  const textOf = (name: string, content: string) =>
    answerTo(aModel({ name }), readChat({ model: name, messages: [{ role: 'user', content }] })).content.join(
      '',
    )
  assert.equal(textOf('a', 'why?'), textOf('A:latest'.toLowerCase(), 'why?'))
  assert.notEqual(textOf('a', 'why?'), textOf('b', 'why?'))
  assert.notEqual(textOf('a', 'why?'), textOf('a', 'how?'))
  assert.match(textOf('a', 'why?'), /^I am a:latest, simulated: .* You said "why\?"\./)
})

test('an embedding is a unit vector that depends on the text alone', () => {
  const vector = embeddingOf('hello', 768)
  assert.deepEqual(vector, embeddingOf('hello', 768))
  assert.notDeepEqual(vector, embeddingOf('hullo', 768))
  assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-6)
})

test('a request waits for the batch of another prompt although it has a slot, and counts that in no duration (362)', async () => {
  const { clock, start } = aRunner(talker)
  const first = start('x'.repeat(4 * 1000))
  await clock.advance(100)
  const second = start('y'.repeat(40))
  await clock.runUntilIdle()
  assert.equal((await first.timings).promptMs, 1000)
  // 512 tokens take 512 ms, and then ten more take 10.
  assert.equal(second.pieces[0]?.[0], 512 + 10 + 27)
  assert.equal((await second.timings).promptMs, 10)
})

test('a prompt whose caller left keeps its runner busy to the end of the batch (372)', async () => {
  const { clock, start } = aRunner(talker)
  const first = start('x'.repeat(4 * 1000))
  await clock.advance(100)
  first.leaving.abort(new Error('gone'))
  await assert.rejects(first.timings, /gone/)
  const second = start('y'.repeat(40))
  await clock.runUntilIdle()
  assert.equal(second.pieces[0]?.[0], 512 + 10 + 20)
})
