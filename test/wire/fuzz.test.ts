import { suite, test } from 'node:test'
import { fuzzAnswers, fuzzCallers } from '../support/fuzz.ts'

const ms = 10_000
const seed = Date.now() % 2 ** 31

suite('ten seconds of fuzz on each side', () => {
  test('by callers: every answer is well-formed, and only our requests reach the node', async (test) => {
    test.diagnostic(`seed ${seed}`)
    test.diagnostic(`${await fuzzCallers({ ms, seed })} connections`)
  })

  test('by nodes: every caller gets an answer or an explicit error, and none a half that looks whole', async (test) => {
    test.diagnostic(`seed ${seed}`)
    test.diagnostic(`${await fuzzAnswers({ ms, seed })} requests`)
  })
})
