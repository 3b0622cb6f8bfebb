import assert from 'node:assert/strict'
import { test } from 'node:test'
import { timingsOf, tokensOf } from '../../lib/gateway/answer-json.ts'

const final = {
  done: true,
  total_duration: 2e9,
  prompt_eval_count: 100,
  prompt_eval_duration: 1e8,
  eval_count: 10,
  eval_duration: 1e9,
}

test('the prompt tokens that were cached are read where Ollama tells them, and missing where it does not (374)', () => {
  assert.equal(timingsOf({ ...final, prompt_eval_cached_count: 90 })?.cachedTokens, 90)
  assert.equal(timingsOf({ ...final, prompt_eval_cached_count: 0 })?.cachedTokens, 0)
  assert.ok(!('cachedTokens' in (timingsOf(final) ?? {})))
  for (const absurd of [-1, 1e9, 1.5, '90', null])
    assert.ok(
      !('cachedTokens' in (timingsOf({ ...final, prompt_eval_cached_count: absurd }) ?? {})),
      `${absurd}`,
    )
})

test('so they are in the words of OpenAI (374)', () => {
  const chat = { prompt_tokens: 100, completion_tokens: 10, prompt_tokens_details: { cached_tokens: 90 } }
  assert.deepEqual(tokensOf({ usage: chat }, 0), { input: 100, cached: 90, output: 10 })
  const responses = { input_tokens: 100, output_tokens: 10, input_tokens_details: { cached_tokens: 90 } }
  assert.deepEqual(tokensOf({ response: { usage: responses } }, 0), { input: 100, cached: 90, output: 10 })
  assert.deepEqual(tokensOf({ usage: { prompt_tokens: 100 } }, 7), { input: 100, output: 7 })
})
