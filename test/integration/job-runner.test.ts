import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { JobRunner } from '../../lib/cluster/jobs/job-runner.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import type { Entry, Operation } from '../../lib/store/store.ts'
import { keys } from '../support/cluster.ts'
import { aSnapshot } from '../support/fleet.ts'
import { eventually } from '../support/wire.ts'

const tiny = aModel({ name: 'tiny:1b', sizeMiB: 10 })
const job = JSON.stringify({
  action: 'pull',
  model: tiny.name,
  body: { model: tiny.name },
  nodes: ['x'],
  spares: [],
  tenant: 't',
  created: '2026-01-01T00:00:00Z',
  cancelled: false,
})

type Write = PromiseWithResolvers<bigint | null> & { readonly value: string }

/** A leader of term 5 with one job for one node; what it writes is answered by the test, and never comes back to it. */
async function aRunner(t: TestContext) {
  const node = await SimulatedNode.start({ name: 'x', models: [], registry: [tiny], netMiBps: 100 })
  const entry = (key: string, value: string): [string, Entry] => [
    key,
    { key, value, created: 1n, modified: 1n, lease: null },
  ]
  const entries = new Map([entry(keys.job('1'), job), entry(keys.node('x'), '{}')])
  const snapshot = aSnapshot({ nodes: [{ name: 'x', url: node.url }] })
  const store = { revision: 5n, writes: [] as Write[] }
  const metrics = new Metrics()
  const runner = new JobRunner({
    fence: 5n,
    guarded: ([operation]: readonly Operation[]) => {
      const value = operation?.type === 'put' ? operation.value : ''
      const write = { ...Promise.withResolvers<bigint | null>(), value }
      store.writes.push(write)
      return write.promise
    },
    view: () => ({ snapshot, suspect: null, entries, revision: store.revision }),
    refresh: async () => {},
    keys,
    clock: new RealClock(),
    random: () => 0.5,
    log: silentLog,
    metrics,
  })
  t.after(() => {
    runner.stop()
    return node.stop()
  })
  return { node, store, runner, metrics }
}

test('nothing is done while the copy of the store is older than the term', async (t) => {
  const { store, runner } = await aRunner(t)
  store.revision = 4n
  runner.start()
  await sleep(20)
  assert.equal(store.writes.length, 0)
  store.revision = 5n
  await eventually(() => store.writes.length === 1, 'it begins')
})

test('no node is asked before the store has it, and none after the term has ended', async (t) => {
  const { node, store, runner } = await aRunner(t)
  runner.start()
  await eventually(() => store.writes.length === 1, 'the first write')
  assert.equal(JSON.parse(store.writes[0]?.value ?? '').nodes.x.state, 'running')
  store.writes[0]?.reject(new Error('unavailable'))
  await eventually(() => store.writes.length === 2, 'the next write')
  assert.equal(node.requests.length, 0)
  runner.stop()
  store.writes[1]?.resolve(6n)
  await sleep(50)
  assert.equal(node.requests.length, 0)
})

test('what is under way is cut off when the term ends', async (t) => {
  const { node, store, runner } = await aRunner(t)
  node.control.blackhole()
  runner.start()
  await eventually(() => store.writes.length === 1, 'the first write')
  store.writes[0]?.resolve(6n)
  await eventually(() => node.requests.length === 1, 'the node is asked')
  runner.stop()
  await eventually(() => node.requests[0]?.abortedAt !== null, 'cut off')
})

test('a job that ended is not begun again by an old copy of the store, and counts once', async (t) => {
  const { node, store, runner, metrics } = await aRunner(t)
  runner.start()
  const isDone = () => store.writes.at(-1)?.value.includes('"state":"done"') === true
  await eventually(() => {
    for (const write of store.writes) write.resolve(6n)
    return isDone()
  }, 'done')
  for (const write of store.writes) write.resolve(6n)
  for (let n = 0; n < 3; n++) {
    await sleep(10)
    runner.poke()
  }
  await sleep(10)
  assert.equal(node.requests.length, 1)
  assert.ok(isDone())
  assert.equal((await metrics.jobResults.get()).values[0]?.value, 1)
})
