import { suite, test } from 'node:test'
import { fuzzAnswers, fuzzCallers } from '../suites/fuzz.ts'

const ms = 30 * 60_000
const seed = Date.now() % 2 ** 31
const timeout = ms + 5 * 60_000

suite('an hour of fuzz', { timeout: 2 * timeout }, () => {
  test('by callers', { timeout }, async (test) => {
    test.diagnostic(`seed ${seed}`)
    test.diagnostic(`${await fuzzCallers({ ms, seed })} connections`)
  })

  test('by nodes', { timeout }, async (test) => {
    test.diagnostic(`seed ${seed}`)
    test.diagnostic(`${await fuzzAnswers({ ms, seed })} requests`)
  })
})
