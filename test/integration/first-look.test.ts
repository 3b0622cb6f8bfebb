import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { startApp } from '../../lib/app.ts'
import { loadSettings } from '../../lib/settings/settings.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { eventually } from '../support/wire.ts'

const models = [aModel({ name: 'm', loadMs: 10 })]

test('a request at the start of an instance waits for the look at a node that was down when it stopped', async () => {
  await using cleanup = new AsyncDisposableStack()
  const state = await mkdtemp(join(tmpdir(), 'llamero-state-'))
  cleanup.defer(() => rm(state, { recursive: true }))
  const flags = { listen: '127.0.0.1:0', admin: '127.0.0.1:0', name: 'test', state, 'log-level': 'error' }
  const start = async () => startApp(await loadSettings(flags))
  const put = (key: string, value: object) => ({ type: 'put' as const, key, value: JSON.stringify(value) })

  const node = await SimulatedNode.start({ name: 'n', models })
  const before = await start()
  await before.store.commit({
    when: [],
    apply: [
      put(before.keys.config, { probes: { interval: '200ms' } }),
      put(before.keys.node('n'), { url: node.url }),
    ],
  })
  const view = () => before.snapshot.get().nodes.get('n')
  await eventually(() => view()?.available === true, 'it is up')
  await node.stop()
  await eventually(() => view()?.status?.health === 'down', 'it is down', 5000)
  await before.stop()

  const port = Number(new URL(node.url).port)
  const back = await SimulatedNode.start({ name: 'n', models, port })
  cleanup.defer(() => back.stop())
  const app = await start()
  cleanup.defer(() => app.stop())
  const answer = await fetch(`http://127.0.0.1:${app.data.port}/api/chat`, {
    method: 'POST',
    body: JSON.stringify({ model: 'm', messages: [], stream: false }),
  })
  assert.equal(answer.status, 200, await answer.text())
})
