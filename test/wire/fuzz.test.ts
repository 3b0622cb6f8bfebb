import { suite, test } from 'node:test'
import { fuzzAnswers, fuzzCallers } from '../suites/fuzz.ts'

const ms = 10_000
const seed = Date.now() % 2 ** 31

suite('ten seconds of fuzz on each side', () => {
  test('by callers: every response is well-formed, and only requests of llamero reach the node', async (test) => {
    test.diagnostic(`seed ${seed}`)
    test.diagnostic(`${await fuzzCallers({ ms, seed })} connections`)
  })

  test('by nodes: every caller gets a response or an explicit error, and no incomplete one that looks complete', async (test) => {
    test.diagnostic(`seed ${seed}`)
    test.diagnostic(`${await fuzzAnswers({ ms, seed })} requests`)
  })
})
