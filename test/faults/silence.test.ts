import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Etcd, startEtcd } from '../support/etcd.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const minuteMs = 60_000

let etcd: Etcd
let instances: InstanceProcess[]

before(async () => {
  etcd = await startEtcd()
  const several = `${etcd.endpoint},http://127.0.0.1:1,http://127.0.0.1:2`
  instances = await Promise.all([
    InstanceProcess.start('one', { LLAMERO_ETCD: etcd.endpoint }),
    InstanceProcess.start('three', { LLAMERO_ETCD: several }),
  ])
})

after(async () => {
  await Promise.all(instances.map((instance) => instance.stop()))
  await etcd.stop()
})

test('a minute without etcd is told in fewer lines than it has seconds, with one endpoint and with three', async (test) => {
  const registered = async ({ adminUrl }: InstanceProcess) =>
    ((await (await fetch(`${adminUrl}/admin/v1/status`)).json()) as { instances: number }).instances === 2
  const all = (within: number) =>
    Promise.all(instances.map((instance) => until(() => registered(instance), 'both are registered', within)))
  await all(10_000)
  const before = instances.map(linesOf)
  await etcd.kill('SIGKILL')
  await sleep(minuteMs)
  const lines = instances.map((instance, index) => linesOf(instance) - (before[index] ?? 0))
  test.diagnostic(`${lines.join(' and ')} lines`)
  for (const [index, count] of lines.entries()) {
    assert.ok(count > 0, 'it is told at all')
    assert.ok(count < minuteMs / 1000, instances[index]?.log)
  }
  await etcd.restart()
  const backAt = performance.now()
  const following = async ({ adminUrl }: InstanceProcess) =>
    ((await (await fetch(`${adminUrl}/admin/v1/status`)).json()) as { store: { ok: boolean } }).store.ok
  await Promise.all(instances.map((instance) => until(() => following(instance), 'it follows', 3000)))
  test.diagnostic(`back after ${Math.round(performance.now() - backAt)} ms`)
})

function linesOf({ log }: InstanceProcess): number {
  return log.split('\n').length
}
