import { test } from 'node:test'
import { checkCore } from '../../support/core-model.ts'

test('whatever happens, no slot is lost or given twice, victims get nothing, and nobody starves', () => {
  checkCore(10_000)
})
