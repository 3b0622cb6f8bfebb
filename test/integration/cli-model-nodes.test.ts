import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import type { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { llamero } from '../support/cli.ts'
import { startInstance } from '../support/instance.ts'
import { eventually } from '../support/wire.ts'

const wanted = aModel({ name: 'wanted:1b', sizeMiB: 1 })
const kept = aModel({ name: 'kept:1b', sizeMiB: 1 })

test('models are pulled, copied, loaded and removed through a whole instance from the command line', async () => {
  await using instance = await startInstance({ nodes: 2, models: [kept], registry: [wanted] })
  const run = (line: string) =>
    llamero(line, { url: instance.adminUrl, adminToken: () => instance.token, clock: new RealClock() })
  const succeed = async (line: string, said: RegExp) => {
    const { code, err } = await run(line)
    assert.equal(code, 0, err)
    assert.match(err, said)
  }
  const namesOn = async ({ url }: SimulatedNode, path: string) => {
    const { models } = (await (await fetch(`${url}/api/${path}`)).json()) as { models: { name: string }[] }
    return models.map(({ name }) => name).sort()
  }
  const names = (path: string) => Promise.all(instance.nodes.map((node) => namesOn(node, path)))
  const isKnown = (name: string) =>
    eventually(() => instance.app.snapshot.get().models.has(name), `${name} is known`, 10_000)

  await succeed('pull wanted:1b --copies all', /^wanted:1b: pulled to node-0, node-1/m)
  assert.deepEqual(await names('tags'), [
    ['kept:1b', 'wanted:1b'],
    ['kept:1b', 'wanted:1b'],
  ])
  await succeed('model copy kept:1b second --nodes node-0', /^kept:1b: copied on node-0/m)
  assert.deepEqual((await names('tags'))[0], ['kept:1b', 'second:latest', 'wanted:1b'])
  await succeed('model load kept:1b --nodes node-1', /^kept:1b: loaded on node-1/m)
  assert.deepEqual(await names('ps'), [[], ['kept:1b']])
  await isKnown('wanted:1b')
  await succeed('model rm wanted:1b --nodes node-0 --yes', /^wanted:1b: removed from node-0/m)
  assert.deepEqual(await names('tags'), [
    ['kept:1b', 'second:latest'],
    ['kept:1b', 'wanted:1b'],
  ])
  assert.match((await run('model where kept:1b')).out, /^node-1 +up +newest/m)

  const failed = await run('model pull unheard:1b --nodes node-0')
  assert.equal(failed.code, 1)
  assert.match(
    failed.err,
    /pull failed on node-0: .*\n {2}hint: llamero model pull unheard:1b --nodes node-0/,
  )
  assert.match((await run('model jobs --all')).out, /pull +unheard:1b +failed +0\/1 +node-0/)
})
