import { test } from 'node:test'
import { keepsItsPromise } from '../suites/chaos-promise.ts'

test('while nodes are killed, hung, reset and restarted, every answer is complete or ends in an error', (t) =>
  keepsItsPromise(t, {
    streams: 120,
    wholes: 10,
    nodes: 5,
    stormMs: 16_000,
    faultEveryMs: 1000,
    seed: Number(process.env['CHAOS_SEED'] ?? Date.now() % 1_000_000),
    isThorough: false,
  }))
