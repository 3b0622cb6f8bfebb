import { test } from 'node:test'
import { keepsItsPromise } from '../suites/chaos-promise.ts'

test('two minutes of nodes killed, hung, reset and restarted under 500 streams: no lie, no hang, no leak', (t) =>
  keepsItsPromise(t, {
    streams: 500,
    wholes: 24,
    nodes: 6,
    stormMs: 120_000,
    faultEveryMs: 2000,
    seed: Number(process.env['CHAOS_SEED'] ?? Date.now() % 1_000_000),
    isThorough: true,
  }))
