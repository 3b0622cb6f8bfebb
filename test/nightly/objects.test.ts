import { test } from 'node:test'
import { followsManyObjects } from '../suites/many-objects.ts'

test('5000 objects listed 30 times: start within a second, each list within 200 ms, event loop free meanwhile', (test) =>
  followsManyObjects(test, 30))
