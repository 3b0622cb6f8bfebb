import { test } from 'node:test'
import { checkCore } from '../suites/core-model.ts'

test('whatever happens in 100,000 courses, no slot is lost or given twice, victims get nothing, and nobody starves', () => {
  checkCore(100_000)
})
