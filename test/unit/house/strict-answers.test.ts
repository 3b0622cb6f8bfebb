import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { type Answer, type Dialect, dialects, judge } from '../../support/strict-answers.ts'

// The chaos test relies on this check alone: a fault that it misses stays unseen.

interface Sample {
  /** Says `one `, then `two`. */
  readonly said: readonly [string, string]
  readonly end: string
  readonly error: string
}

const samples: Readonly<Record<string, Sample>> = {
  '/api/chat': {
    said: ['{"message":{"content":"one "},"done":false}\n', '{"message":{"content":"two"},"done":false}\n'],
    end: '{"message":{"content":""},"done":true}\n',
    error: '\n{"error":"it broke"}\n',
  },
  '/api/generate': {
    said: ['{"response":"one ","done":false}\n', '{"response":"two","done":false}\n'],
    end: '{"response":"","done":true}\n',
    error: '\n{"error":"it broke"}\n',
  },
  '/v1/chat/completions': {
    said: [
      'data: {"choices":[{"delta":{"content":"one "}}]}\n\n',
      'data: {"choices":[{"delta":{"content":"two"}}]}\n\n',
    ],
    end: 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    error: '\n\ndata: {"error":{"message":"it broke"}}\n\n',
  },
  '/v1/messages': {
    said: [
      'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"one "}}\n\n',
      'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"two"}}\n\n',
    ],
    end: 'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    error: '\n\nevent: error\ndata: {"type":"error","error":{"message":"it broke"}}\n\n',
  },
}

for (const dialect of dialects) {
  suite(`a stream of ${dialect.path}`, () => {
    const { said, end, error } = samples[dialect.path] as Sample
    const all = said.join('')
    const half = end.slice(0, end.length / 3)
    const cases: [string, string, boolean, string][] = [
      ['whole', all + end, true, 'complete'],
      ['an error at its end', said[0] + error, false, 'error'],
      ['an error after half a frame', said[0] + half + error, false, 'error'],
      ['an error and nothing else', error, false, 'refused'],
      ['no terminator', all, true, 'wrong: silently truncated'],
      ['cut', all, false, 'wrong: cut without a word'],
      ['cut after its terminator', all + end, false, 'wrong: cut after its end'],
      ['a chunk lost', said[0] + end, true, 'wrong: it says something else'],
      ['a chunk twice', said[0] + all + end, true, 'wrong: it says something else'],
      ['a second terminator', all + end + end, true, 'wrong: it goes on after its end'],
      ['an error in its middle', said[0] + error + said[1] + end, true, 'wrong: it goes on after its end'],
    ]
    for (const [name, text, ended, verdict] of cases) {
      test(name, () => assert.equal(verdictOf(dialect, true, { text, ended }), verdict))
    }
  })
}

test('whole answers: nothing but the whole text in an answer that ended', () => {
  const [chat] = dialects as [Dialect]
  const verdict = (text: string, ended = true) => verdictOf(chat, false, { text, ended })
  assert.equal(verdict('{"message":{"content":"one two"},"done":true}'), 'complete')
  assert.equal(verdict('{"message":{"content":"one two"},"done":false}'), 'wrong: it says something else')
  assert.equal(verdict('{"message":{"content":"one "},"done":true}'), 'wrong: it says something else')
  assert.equal(verdict('{"message":{"con'), 'wrong: it is no JSON')
  assert.equal(verdict('{"message":{"con', false), 'wrong: cut without a word')
  assert.equal(verdictOf(chat, false, { status: 503 }), 'refused')
  assert.equal(verdictOf(chat, true, { hung: true }), 'wrong: it hangs')
})

function verdictOf(dialect: Dialect, stream: boolean, answer: Partial<Answer>): string {
  const whole = { hung: false, status: 200, text: '', ended: true, attempts: 1, ...answer }
  return judge(dialect, { model: 'm', stream, words: 2 }, whole, 'one two')
}
