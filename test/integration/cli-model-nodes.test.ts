import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { aModel } from '../../lib/simulator/models.ts'
import { SimulatedNode } from '../../lib/simulator/node.ts'
import { llamero } from '../support/cli.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startModelAdmin } from '../support/model-admin.ts'

test('models are pulled to simulated nodes, copied, loaded, unloaded and removed from the command line', async (t) => {
  const wanted = aModel({ name: 'wanted:1b', sizeMiB: 1 })
  const kept = aModel({ name: 'kept:1b', sizeMiB: 1 })
  const nodes = await Promise.all(
    ['a', 'b'].map((name) => SimulatedNode.start({ name, models: [kept], registry: [wanted], netMiBps: 0 })),
  )
  t.after(() => Promise.all(nodes.map((node) => node.stop())))
  const fleet = (models: string[], loaded: string[] = []) =>
    aSnapshot({ nodes: nodes.map(({ name, url }) => ({ name, url, models, loaded })) })
  await using admin = await startModelAdmin(fleet(['kept:1b', 'wanted:1b'], ['kept:1b']))
  admin.jobs.works = true
  const run = (line: string) =>
    llamero(`${line} --timeout 100s`, { url: admin.url, clock: new RealClock(0.1) })
  const namesOn = async ({ url }: SimulatedNode, path: string) => {
    const { models } = (await (await fetch(`${url}/api/${path}`)).json()) as { models: { name: string }[] }
    return models.map(({ name }) => name).sort()
  }
  const names = (path: string) => Promise.all(nodes.map((node) => namesOn(node, path)))

  const pulled = await run('pull wanted:1b --copies all')
  assert.equal(pulled.code, 0, pulled.err)
  assert.match(pulled.err, /^wanted:1b: pulled to a, b/m)
  assert.deepEqual(await names('tags'), [
    ['kept:1b', 'wanted:1b'],
    ['kept:1b', 'wanted:1b'],
  ])
  assert.equal((await run('model copy kept:1b second --nodes a')).code, 0)
  assert.deepEqual((await names('tags'))[0], ['kept:1b', 'second:latest', 'wanted:1b'])
  assert.equal((await run('model load kept:1b --nodes b')).code, 0)
  assert.deepEqual(await names('ps'), [[], ['kept:1b']])
  assert.equal((await run('model rm wanted:1b --nodes a --yes')).code, 0)
  assert.deepEqual(await names('tags'), [
    ['kept:1b', 'second:latest'],
    ['kept:1b', 'wanted:1b'],
  ])

  const failed = await run('model pull unheard:1b --nodes a')
  assert.equal(failed.code, 1)
  assert.match(
    failed.err,
    /unheard:1b: pull failed on a: .*\n {2}hint: llamero model pull unheard:1b --nodes a/,
  )
  assert.match((await run('model jobs --all')).out, /job-5 +pull +unheard:1b +failed +0\/1 +a/)
})
