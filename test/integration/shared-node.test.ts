import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { type App, startApp } from '../../lib/app.ts'
import { loadSettings } from '../../lib/settings/settings.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { type Etcd, etcdctlPut, startEtcd } from '../support/etcd.ts'
import { askOnce, Load } from '../support/load.ts'
import { eventually } from '../support/wire.ts'

/** Of another there is no room beside one on the node. */
const models = ['a', 'b'].map((name) =>
  aModel({ name, sizeMiB: 128, loadMs: 300, promptTps: 0, decodeTps: 200, text: 'word '.repeat(20) }),
)
/** A load that is late by 5 s is told; within 2 s the others hold their requests; then the node unloads, and loads. */
const mostMs = 15_000

suite('a node with room for one model that two instances use', () => {
  let etcd: Etcd
  let node: SimulatedNode
  let state: string
  let apps: App[]
  const urlOf = (app: App | undefined) => `http://127.0.0.1:${app?.data.port}`

  before(async () => {
    etcd = await startEtcd()
    // Nothing says how much fits: Ollama makes the room by itself, which waits for what is busy.
    node = await SimulatedNode.start({
      name: 'n',
      models,
      numParallel: 2,
      gpus: [{ id: 'gpu0', totalMiB: 200, discrete: true }],
    })
    await etcdctlPut(etcd.endpoint, '/llamero/default/nodes/n', JSON.stringify({ url: node.url, slots: 2 }))
    state = await mkdtemp(join(tmpdir(), 'llamero-state-'))
    apps = await Promise.all(
      ['i', 'j'].map(async (name) => {
        const flags = { listen: '127.0.0.1:0', admin: '127.0.0.1:0', name, 'log-level': 'error' }
        return startApp(await loadSettings({ ...flags, state: join(state, name), etcd: etcd.endpoint }))
      }),
    )
    const isUp = ({ snapshot }: App) => snapshot.get().nodes.get('n')?.available === true
    await eventually(() => apps.every(isUp), 'both instances know the node', 15_000)
  })
  after(async () => {
    await Promise.all(apps.map((app) => app.stop()))
    await node.stop()
    await etcd.stop()
    await rm(state, { recursive: true })
  })

  test('loads what one waits for though the other keeps another model busy without pause', async () => {
    const [one, other] = apps
    await using load = new Load(() => [urlOf(one)], 'a', 3)
    await eventually(() => load.completed > 2, 'one model is in use', 10_000)
    const since = performance.now()
    const answer = askOnce(urlOf(other), 'b')
    const evicts = () => node.log.some(({ type }) => type === 'evict')
    await eventually(evicts, 'Ollama waits until the first model is idle', 5000)
    // By this Ollama forgets that it is to go (ollama#17408).
    const body = JSON.stringify({ model: 'a', keep_alive: '1h' })
    await fetch(`${node.url}/api/generate`, { method: 'POST', body })
    assert.equal(await answer, null)
    const tookMs = Math.round(performance.now() - since)
    assert(tookMs < mostMs, `the other model was loaded within ${tookMs} ms`)

    // What waits for the first model meanwhile is served as well.
    await load.stop()
    assert.deepEqual(load.failures, [])
    assert(load.longestMs < 2 * mostMs, `the longest request took ${Math.round(load.longestMs)} ms`)
  })
})
