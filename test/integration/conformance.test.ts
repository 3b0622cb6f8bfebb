import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { SimulatedNode } from '../../lib/simulator/node.ts'
import { conformance, conformanceModels } from '../support/conformance.ts'
import { type Instance, startInstance } from '../support/instance.ts'

suite('what the ollama, openai and anthropic clients see of three nodes behind llamero', () => {
  let instance: Instance
  let single: SimulatedNode
  before(async () => {
    single = await SimulatedNode.start({ name: 'single', models: conformanceModels })
    instance = await startInstance({ nodes: 3, models: conformanceModels })
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
