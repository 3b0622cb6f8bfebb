import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { test } from 'node:test'
import { llamero } from '../support/cli.ts'
import { startEtcd } from '../support/etcd.ts'
import { InstanceProcess, until } from '../support/processes.ts'

/** A lease lasts 10 s, and an election comes after it; the rest is for a busy machine. */
const withinMs = 30_000

test('an instance that ends without a clean stop is named until it is back or forgotten, also by the next leader', async () => {
  await using resources = new AsyncDisposableStack()
  const etcd = resources.adopt(await startEtcd(), (it) => it.stop())
  const start = async (name: string, env: Record<string, string> = { LLAMERO_ETCD: etcd.endpoint }) =>
    resources.adopt(await InstanceProcess.start(name, env), (it) => it.stop())
  const leads = async ({ adminUrl }: InstanceProcess) => (await fetch(`${adminUrl}/leader`)).ok
  const shown = async ({ adminUrl: url }: InstanceProcess, line: string) => {
    const { out, err } = await llamero(line, { url })
    return out + err
  }
  const missing = async (instance: InstanceProcess) => {
    const status = await shown(instance, 'status')
    return [...status.matchAll(/instance (\S+) on (\S+) is missing since \S+Z:/g)].map(
      ([, id, host]) => `${id} ${host}`,
    )
  }
  const isMissing = async (instance: InstanceProcess, ...ids: string[]) =>
    (await missing(instance)).sort().join() === ids.map((id) => `${id} ${hostname()}`).join()

  const a = await start('a')
  await until(() => leads(a), 'a leads', withinMs)
  const b = await start('b')
  const c = await start('c')
  await until(async () => (await a.admin('status'))['instances'] === 3, 'all are registered', withinMs)
  assert.deepEqual(await missing(a), [])

  b.signal('SIGKILL')
  await until(() => isMissing(a, 'b'), 'a names b', withinMs)
  assert.match(await shown(a, 'status'), /^ +hint: see there: .*llamero instance forget b$/m)
  assert.match(await shown(a, 'instance list'), /^instance b on \S+ is missing since/m)

  a.signal('SIGKILL')
  await until(() => isMissing(c, 'a', 'b'), 'the next leader names both', withinMs)

  const again = await start('b', b.env)
  await until(() => isMissing(c, 'a'), 'b is back', withinMs)
  const { code } = await c.cli('instance', 'forget', 'a')
  assert.equal(code, 0)
  await until(() => isMissing(c), 'a is forgotten', withinMs)
  assert.equal((await c.cli('instance', 'forget', 'a')).code, 3)
  assert.equal((await c.cli('instance', 'forget', 'b')).code, 5)

  again.signal('SIGTERM')
  await again.exited()
  assert.deepEqual(await missing(c), [], 'a clean stop is no fault')
  assert.match(await shown(c, 'instance list'), /^instance b on \S+ was stopped at \S+Z$/m)
})
