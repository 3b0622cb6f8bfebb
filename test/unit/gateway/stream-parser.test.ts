import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import type { Api } from '../../../lib/fleet/request-spec.ts'
import { errorAtStart, StreamParser } from '../../../lib/gateway/response/stream-parser.ts'

const ndjson = 'application/x-ndjson'
const sse = 'text/event-stream'
const line = (content: string) => `${JSON.stringify({ message: { content }, done: false })}\n`
const last = '{"message":{"content":""},"done":true,"prompt_eval_count":26,"eval_count":31}\n'
const event = (data: unknown) => `data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`
const delta = (finish: string | null) =>
  event({ model: 'm', choices: [{ delta: {}, finish_reason: finish }], usage: null })

interface Case {
  readonly api?: Api
  readonly type?: string
  /** Bytes per chunk; all at once when absent. */
  readonly pieces?: number
}

function read(text: string, { api = 'ollama_chat', type = ndjson, pieces = text.length }: Case = {}) {
  const tail = new StreamParser(api, type)
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += pieces) tail.read(bytes.subarray(at, at + pieces))
  return { ...tail.end(), malformed: tail.malformed }
}

suite('a native stream', () => {
  test('is complete with done:true, and counts its tokens', () => {
    const tokens = { input: 26, output: 31 }
    assert.deepEqual(read(line('a') + line('b') + last), {
      kind: 'complete',
      tokens,
      timings: null,
      malformed: 0,
    })
    assert.equal(read(last.trimEnd()).kind, 'complete', 'without the last line break')
    assert.equal(read(last.replace('\n', '\r\n')).kind, 'complete', 'with the line breaks of another system')
    assert.equal(read('{ "done" : true }\n').kind, 'complete', 'written by another hand')
  })

  test('that ends without done:true is truncated, even with a proper end', () => {
    assert.equal(read(line('a')).kind, 'truncated')
    assert.equal(read('').kind, 'truncated')
    assert.equal(read(line('a') + last.slice(0, 20)).kind, 'truncated')
    // Text of the model, and arguments of a tool, end no stream.
    assert.equal(read(line('{"done":true}')).kind, 'truncated')
    const call = { message: { tool_calls: [{ function: { arguments: { done: true } } }] }, done: false }
    assert.equal(read(`${JSON.stringify(call)}\n`).kind, 'truncated')
  })

  test('that ends in an error line has its text', () => {
    assert.deepEqual(read(`${line('a')}{"error":"out of memory"}\n`), {
      kind: 'error',
      text: 'out of memory',
      malformed: 0,
    })
  })

  test('has its malformed lines counted', () => {
    assert.deepEqual(read(`${line('a')}garbage\n${line('b')}{"cut":\n${last}`).malformed, 2)
  })

  test('may end in a line of megabytes', () => {
    const context = Array.from({ length: 400_000 }, (_, n) => n)
    const huge = JSON.stringify({ model: 'm', response: '', done: true, done_reason: 'stop', context })
    assert(huge.length > 2 ** 21)
    assert.equal(read(`${huge}\n`, { pieces: 65_536, api: 'ollama_generate' }).kind, 'complete')
  })
})

suite('an OpenAI stream', () => {
  const openai: Case = { api: 'openai_chat', type: sse }
  const usage = event({ model: 'm', choices: [], usage: { prompt_tokens: 5, completion_tokens: 7 } })

  test('is complete with [DONE]', () => {
    assert.equal(read(delta(null) + delta('stop') + event('[DONE]'), openai).kind, 'complete')
    assert.deepEqual(read(delta('stop') + usage + event('[DONE]'), openai), {
      kind: 'complete',
      tokens: { input: 5, output: 7 },
      timings: null,
      malformed: 0,
    })
  })

  test('with a finish reason lacks only [DONE]', () => {
    assert.equal(read(delta(null) + delta('stop'), openai).kind, 'lacks-done')
    assert.equal(read(delta('length') + usage, openai).kind, 'lacks-done')
  })

  test('that just ends, as when a runner of Ollama dies, is truncated', () => {
    assert.equal(read(delta(null), openai).kind, 'truncated')
    const swallowed = event({ model: '', choices: [{ delta: { content: '' }, finish_reason: null }] })
    assert.equal(read(delta(null) + swallowed, openai).kind, 'truncated')
  })

  test('may carry an error, comments and other fields', () => {
    assert.equal(read(event({ error: { message: 'no' } }), openai).kind, 'error')
    const odd = `: ping\nevent: x\nid: 1\nretry: 5\n${delta('stop')}${event('[DONE]')}`
    assert.deepEqual(read(odd, openai).malformed, 0)
    assert.equal(read(`what\n${delta('stop')}`, openai).malformed, 1)
  })
})

suite('the other streams', () => {
  test("Anthropic's is complete with message_stop, Responses' with response.completed", () => {
    const counts = event({ type: 'message_delta', usage: { input_tokens: 3, output_tokens: 4 } })
    const stop = `event: message_stop\n${event({ type: 'message_stop' })}`
    assert.deepEqual(read(counts + stop, { api: 'anthropic_messages', type: sse }), {
      kind: 'complete',
      tokens: { input: 3, output: 4 },
      timings: null,
      malformed: 0,
    })
    assert.equal(read(counts, { api: 'anthropic_messages', type: sse }).kind, 'truncated')
    const responses: Case = { api: 'openai_responses', type: sse }
    const completed = event({
      type: 'response.completed',
      response: { usage: { input_tokens: 1, output_tokens: 2 } },
    })
    assert.equal(read(completed, responses).kind, 'complete')
    const failed = event({ type: 'response.failed', response: { error: { message: 'search failed' } } })
    assert.equal(read(failed, responses).kind, 'error')
    assert.equal(read(event({ type: 'response.output_text.delta' }), responses).kind, 'truncated')
  })
})

test('the chunks of a stream do not matter (163)', () => {
  const streams: readonly [string, Case][] = [
    [`${line('ä€😀')}garbage\n${line('b')}${last}`, {}],
    [line('a'), {}],
    [`: x\r\n${delta(null)}${delta('stop')}${event('[DONE]')}`, { api: 'openai_chat', type: sse }],
  ]
  for (const [text, options] of streams) {
    const whole = read(text, options)
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), (pieces) => {
        assert.deepEqual(read(text, { ...options, pieces }), whole)
      }),
    )
  }
})

test('an error at the very start is found before anything is sent', () => {
  const start = (text: string, type: string) => errorAtStart(Buffer.from(text), type)
  assert.equal(start('{"error":"no"}\n', ndjson), 'no')
  assert.equal(start('{"error":"{\\"error\\":{\\"message\\":\\"inner\\"}}"}', ndjson), 'inner')
  assert.equal(start(line('{"error":"said the model"}'), ndjson), null)
  assert.equal(start(`event: error\n${event({ type: 'error', error: { message: 'no' } })}`, sse), 'no')
  assert.match(start(event({ model: '', choices: [] }), sse) ?? '', /empty/)
  assert.equal(start(delta(null), sse), null)
  assert.equal(start('{"cut', ndjson), null)
})
