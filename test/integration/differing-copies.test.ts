import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { startInstance } from '../support/instance.ts'
import { eventually } from '../support/wire.ts'

test('a model that is not the same on all nodes is shown by its newest copy, and told wherever one looks', async () => {
  const copy = { name: 'same:1b', loadMs: 0 }
  await using instance = await startInstance({
    nodes: 1,
    models: [aModel(copy)],
  })
  const newer = await SimulatedNode.start({
    name: 'newer',
    models: [aModel({ ...copy, sizeMiB: 1024 })],
  })
  try {
    const { app } = instance
    const value = JSON.stringify({ url: newer.url })
    await app.store.commit({ when: [], apply: [{ type: 'put', key: app.keys.node('newer'), value }] })
    const view = () => app.snapshot.get().models.get('same:1b')
    await eventually(() => view()?.presentOn.length === 2, 'both copies are known', 5000)
    const digests = [...app.snapshot.get().nodes.values()].map((node) => node.onDisk.get('same:1b'))
    assert.notEqual(digests[0], digests[1])

    const read = async (url: string) => await (await fetch(url)).text()
    const status = JSON.parse(await read(`${instance.adminUrl}/admin/v1/status`))
    assert.deepEqual(
      [status.models.differing, status.models.differing_first],
      [1, [{ name: 'same:1b', older_on: ['node-0'] }]],
    )
    const { models } = JSON.parse(await read(`${instance.adminUrl}/admin/v1/models`))
    assert.deepEqual([models[0].nodes, models[0].older_on], [['newer', 'node-0'], ['node-0']])
    assert.equal(models[0].digest, view()?.newest.digest)
    assert.match(await read(`${instance.adminUrl}/metrics`), /^llamero_model_digest_mismatch 1$/m)

    let warnings: readonly string[] = []
    const look = async () => {
      const verdict = await app.store.get(app.keys.verdict(app.keys.node('node-0')))
      warnings = JSON.parse(verdict?.value ?? '{}').warnings ?? []
    }
    for (let n = 0; n < 50 && warnings.length === 0; n++) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      await look()
    }
    assert.match(warnings.join(), /^other nodes have newer copies of same:1b: /)
  } finally {
    await newer.stop()
  }
})
