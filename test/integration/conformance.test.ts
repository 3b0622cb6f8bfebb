import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { conformance, conformanceModels, conformanceRegistry } from '../suites/conformance.ts'
import { type Instance, startInstance } from '../support/instance.ts'

const models = conformanceModels
const registry = conformanceRegistry
const config = {
  auth: { addresses: [{ cidr: ['127.0.0.1/32'], scopes: ['inference', 'admin'] }] },
  management: { copies: 'all', push: true },
}

suite('what the ollama, openai and anthropic clients see of three nodes behind llamero', () => {
  let instance: Instance
  let single: SimulatedNode
  before(async () => {
    single = await SimulatedNode.start({ name: 'single', models, registry })
    instance = await startInstance({ nodes: 3, models, registry, config })
  })
  after(async () => {
    await instance[Symbol.asyncDispose]()
    await single.stop()
  })

  test('is what they see of one, step by step and field by field, ids and times aside', async (t) => {
    const [direct, through] = [await conformance(single.url), await conformance(instance.url)]
    assert(direct.size > 40)
    for (const [name, expected] of direct)
      await t.test(name, () => assert.deepEqual(through.get(name), expected))
  })
})
