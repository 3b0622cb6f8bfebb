import { test } from 'node:test'
import { checkCore } from '../../suites/core-model.ts'

test('in any order of events no slot is lost or given twice, victims get no requests, and no request starves', () => {
  checkCore(10_000)
})
