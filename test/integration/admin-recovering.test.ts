import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StatusAnswer } from '../../lib/api/status.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import type { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { startInstance } from '../support/instance.ts'
import { askOnce } from '../support/load.ts'
import { until } from '../support/processes.ts'

const model = 'm:1b'

test('status tells a healthy node whose breaker waits for a request as recovering, not as avoided', async () => {
  await using instance = await startInstance({ nodes: 1, models: [aModel({ name: model, loadMs: 10 })] })
  const [node] = instance.nodes as [SimulatedNode]
  const seen = async () => {
    const answer = await fetch(`${instance.adminUrl}/admin/v1/status`)
    const { unwell_first, recovering } = ((await answer.json()) as StatusAnswer).nodes
    return JSON.stringify([unwell_first.map(({ name, breaker }) => `${name} ${breaker}`), recovering])
  }
  assert.equal(await askOnce(instance.url, model), null)
  assert.equal(await seen(), '[[],[]]')
  await node.control.refuse()
  await askOnce(instance.url, model)
  await until(async () => (await seen()) === `[["${node.name} open"],[]]`, 'its breaker is open', 10_000)
  await node.control.accept()
  await until(async () => (await seen()) === `[[],["${node.name}"]]`, 'it is healthy again', 15_000)
  assert.equal(await askOnce(instance.url, model), null, 'the breaker lets a request through')
  assert.equal(await seen(), '[[],[]]')
})
