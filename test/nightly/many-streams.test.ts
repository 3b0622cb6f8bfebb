import { test } from 'node:test'
import { holdStreams } from '../suites/many-streams.ts'

test('a thousand streams for half an hour: nothing adds up', () =>
  holdStreams({ streams: 1000, ms: 30 * 60_000, mostMiB: 64 }))
