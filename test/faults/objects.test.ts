import { test } from 'node:test'
import { followsManyObjects } from '../suites/many-objects.ts'

test('5000 objects: start within a second, list within 200 ms, event loop free meanwhile', (test) =>
  followsManyObjects(test, 5))
