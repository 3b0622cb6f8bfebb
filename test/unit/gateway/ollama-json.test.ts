import assert from 'node:assert/strict'
import { test } from 'node:test'
import { timingsOf, tokensOf } from '../../../lib/gateway/response/ollama-json.ts'

const final = {
  done: true,
  total_duration: 2e9,
  prompt_eval_count: 100,
  prompt_eval_duration: 1e8,
  eval_count: 10,
  eval_duration: 1e9,
}

test('cached prompt tokens are read when Ollama sends them, and absent otherwise (374)', () => {
  assert.equal(timingsOf({ ...final, prompt_eval_cached_count: 90 })?.cachedTokens, 90)
  assert.equal(timingsOf({ ...final, prompt_eval_cached_count: 0 })?.cachedTokens, 0)
  assert.ok(!('cachedTokens' in (timingsOf(final) ?? {})))
  for (const absurd of [-1, 1e9, 1.5, '90', null])
    assert.ok(
      !('cachedTokens' in (timingsOf({ ...final, prompt_eval_cached_count: absurd }) ?? {})),
      `${absurd}`,
    )
})

test('cached prompt tokens are read from the fields of OpenAI too (374)', () => {
  const chat = { prompt_tokens: 100, completion_tokens: 10, prompt_tokens_details: { cached_tokens: 90 } }
  assert.deepEqual(tokensOf({ usage: chat }, 0), { input: 100, cached: 90, output: 10 })
  const responses = { input_tokens: 100, output_tokens: 10, input_tokens_details: { cached_tokens: 90 } }
  assert.deepEqual(tokensOf({ response: { usage: responses } }, 0), { input: 100, cached: 90, output: 10 })
  assert.deepEqual(tokensOf({ usage: { prompt_tokens: 100 } }, 7), { input: 100, output: 7 })
})

test('an embedding is timed by its total without the load, and so is a prompt without its own duration (364)', () => {
  const embedding = {
    model: 'e',
    embeddings: [[0.1]],
    total_duration: 4e9,
    load_duration: 1e9,
    prompt_eval_count: 50,
  }
  assert.deepEqual(timingsOf(embedding), {
    total: 4,
    load: 1,
    promptEval: 3,
    eval: 0,
    promptTokens: 50,
    outputTokens: 0,
    fromOutside: true,
  })
  const { prompt_eval_count: _, ...onlyLoads } = embedding
  assert.equal(timingsOf(onlyLoads), null)
  const untimed = { total_duration: 4e9, load_duration: 1e9, eval_count: 10, eval_duration: 1e9 }
  const timings = timingsOf(untimed)
  assert.deepEqual([timings?.promptEval, timings?.eval, timings?.fromOutside], [2, 1, true])
})
