import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics } from '../../lib/shared/metrics.ts'

test('what is counted later is there whenever anybody looks', async () => {
  const metrics = new Metrics()
  metrics.later(() => metrics.decisions.inc({ reason: 'only-node' }))
  metrics.later(() => metrics.queueSeconds.observe({ class: 'interactive', outcome: 'granted' }, 0.2))
  const text = await metrics.registry.metrics()
  assert.match(text, /^llamero_routing_decisions_total\{reason="only-node"\} 1$/m)
  assert.match(text, /^llamero_queue_wait_seconds_count\{class="interactive",outcome="granted"\} 1$/m)
})

test('where nobody looks, what is to be counted does not pile up', () => {
  const metrics = new Metrics()
  let counted = 0
  for (let n = 0; n < 1000; n++) metrics.later(() => counted++)
  assert.ok(counted > 900, `${1000 - counted} wait`)
})
