import { test } from 'node:test'
import { holdStreams } from '../suites/many-streams.ts'

test('a thousand streams at once use no more memory than at their beginning, and end complete (167)', () =>
  holdStreams({ streams: 1000, ms: 5000, mostMiB: 64 }))
