import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { Load } from '../support/load.ts'
import { enterNetwork } from '../support/network.ts'
import { InstanceProcess, until } from '../support/processes.ts'

enterNetwork()

interface StoreStatus {
  readonly ok: boolean
  readonly state: string
  readonly problem: { readonly kind: string; readonly reason: string } | null
}

suite('an instance whose state directory is on a full disk', () => {
  /** In the namespaces of this file, with which it vanishes. */
  const disk = '/run/llamero-disk'
  let token: string
  let changes = 0
  let node: SimulatedNode
  let spare: SimulatedNode
  let instance: InstanceProcess
  const filler = () => join(disk, 'filler')
  const fill = async () => {
    const { bavail, bsize } = await statfs(disk)
    // The instance may have been faster with the last page.
    await writeFile(filler(), Buffer.alloc(bavail * bsize, 'x')).catch((error: NodeJS.ErrnoException) =>
      assert.equal(error.code, 'ENOSPC'),
    )
  }
  const store = async () => ((await instance.admin('status')) as unknown as { store: StoreStatus }).store
  /** Changes something: what an operator does. */
  const change = async () => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const body = JSON.stringify({ labels: { change: `${++changes}` } })
    const url = `${instance.adminUrl}/admin/v1/nodes/spare`
    const answer = await fetch(url, { method: 'PATCH', headers, body })
    return { ok: answer.ok, text: await answer.text() }
  }
  const sees = (name: string, health: string) => async () => {
    const { nodes } = (await instance.admin('nodes')) as unknown as {
      nodes: readonly { readonly name: string; readonly health: string }[]
    }
    return nodes.some((each) => each.name === name && each.health === health)
  }
  const start = async () => InstanceProcess.start('a', { LLAMERO_STATE: join(disk, 'state') })

  before(async () => {
    await mkdir(disk)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk])
    const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
    node = await SimulatedNode.start({ name: 'n', models })
    spare = await SimulatedNode.start({ name: 'spare', models })
    instance = await start()
    token = (await readFile(join(disk, 'state', 'admin-token'), 'utf8')).trim()
    for (const { name, url } of [node, spare]) {
      await instance.cli('node', 'add', name, url)
      await until(sees(name, 'up'), `${name} is up`, 10_000)
    }
  })
  after(async () => {
    instance.signal('SIGKILL')
    await instance.exited()
    await Promise.all([node, spare].map((each) => each.stop()))
  })

  const assertFull = async () => {
    // The last page of the store file may have room for some changes more.
    const refused = async () => (await change()).text.includes('disk full')
    await until(refused, 'a change is refused, with the reason', 30_000)
    await until(async () => (await store()).state === 'read-only', 'it is read-only', 5000)
    const { ok, problem } = await store()
    assert.deepEqual([ok, problem?.kind], [false, 'disk-full'])
    const ready = await fetch(`${instance.adminUrl}/readyz`)
    assert.equal(ready.status, 200, 'traffic goes on')
    assert.match(await ready.text(), /^ready\nstore: read-only, disk full/)
    const lines = instance.log.split('\n').filter((line) => line.includes('the store is read-only'))
    assert.equal(lines.length, 1, lines.join('\n'))
    assert.match(lines[0] ?? '', /"level":"warn".*free space/)
    assert.match(
      await (await fetch(`${instance.adminUrl}/metrics`)).text(),
      /llamero_store_trouble\{kind="disk-full"\} 1/,
    )
  }

  test('logs it, refuses changes with the reason, goes on serving, and takes changes again when there is space (311)', async () => {
    await using load = new Load(() => [instance.url], 'm:1b', 1)
    await fill()
    await assertFull()
    await spare.control.refuse()
    await until(sees('spare', 'down'), 'it sees a node die', 12_000)
    await spare.control.accept()
    await until(sees('spare', 'up'), 'and come back', 12_000)
    await rm(filler())
    await until(async () => (await store()).ok, 'it is ok again', 10_000)
    assert.ok((await change()).ok)
    await load.stop()
    assert.deepEqual(load.failures, [])
  })

  test('starts there, logs it, and serves what it has (311)', async () => {
    instance.signal('SIGKILL')
    await instance.exited()
    await fill()
    instance = await start()
    await assertFull()
    await using load = new Load(() => [instance.url], 'm:1b', 1)
    await until(async () => load.completed > 3, 'it serves', 15_000)
    await load.stop()
    await rm(filler())
    await until(async () => (await store()).ok, 'it is ok again', 10_000)
  })
})
