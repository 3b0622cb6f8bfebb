import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics } from '../../../lib/shared/metrics.ts'

test('counts that wait are in the metrics whenever they are read', async () => {
  const metrics = new Metrics()
  metrics.later(() => metrics.decisions.inc({ reason: 'only-node' }))
  metrics.later(() => metrics.queueSeconds.observe({ class: 'interactive', outcome: 'granted' }, 0.2))
  const text = await metrics.registry.metrics()
  assert.match(text, /^llamero_routing_decisions_total\{reason="only-node"\} 1$/m)
  assert.match(text, /^llamero_queue_wait_seconds_count\{class="interactive",outcome="granted"\} 1$/m)
})

test('waiting counts do not pile up while the metrics are not read', () => {
  const metrics = new Metrics()
  let counted = 0
  for (let n = 0; n < 1000; n++) metrics.later(() => counted++)
  assert.ok(counted > 900, `${1000 - counted} wait`)
})

test('series of removed nodes, models and classes leave every metric; those of existing ones and of no model stay (352)', async () => {
  const metrics = new Metrics()
  for (const name of ['kept', 'gone']) {
    const node = name
    metrics.nodeUp.set({ node }, 1)
    metrics.nodeSlow.set({ node }, 0)
    metrics.nodeInflight.set({ node }, 1)
    metrics.attempts.inc({ node, result: 'done' })
    metrics.breakerState.set({ node, state: 'open' }, 1)
    metrics.breakerTransitions.inc({ node, to: 'open' })
    metrics.probeSeconds.observe({ node }, 0.1)
    metrics.malformedLines.inc({ node })
    metrics.modelLoads.inc({ node: 'kept', model: name })
    metrics.queueSeconds.observe({ class: name, outcome: 'granted' }, 1)
  }
  const count = (model: string) => {
    const series = metrics.request({ api: 'ollama_chat', model, code: 200, outcome: 'ok', cold: false })
    series.total.inc()
    series.seconds.observe(1)
    series.firstToken.observe(1)
    series.output.inc(5)
  }
  for (const model of ['kept', 'gone', '_other', '']) count(model)
  const isKept = (name: string) => name === 'kept'
  for (const label of ['node', 'model', 'class'] as const) await metrics.keepOnly(label, isKept)
  const text = await metrics.registry.metrics()
  assert.doesNotMatch(text, /"gone"/)
  for (const label of ['node', 'model', 'class']) assert.match(text, new RegExp(`${label}="kept"`))
  assert.match(text, /requests_total\{[^}]*model="_other"[^}]*\} 1/)
  assert.match(text, /requests_total\{[^}]*model=""[^}]*\} 1/)

  metrics.later(() => count('gone')) // a request that outlived it
  await metrics.keepOnly('model', isKept)
  assert.doesNotMatch(await metrics.registry.metrics(), /"gone"/)
  count('kept')
  assert.match(await metrics.registry.metrics(), /requests_total\{[^}]*model="kept"[^}]*\} 2/)
})
