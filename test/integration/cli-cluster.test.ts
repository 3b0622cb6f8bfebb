import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { InstanceProcess, until } from '../support/processes.ts'

/** The commands of a cluster, from the command line to etcd and back. */
suite('the CLI in a cluster of two instances', () => {
  let etcd: Etcd
  let instances: InstanceProcess[]
  before(async () => {
    etcd = await startEtcd()
    instances = await Promise.all(
      ['a', 'b'].map((name) => InstanceProcess.start(name, { LLAMERO_ETCD: etcd.endpoint })),
    )
    for (const instance of instances)
      await until(async () => (await statusOf(instance))['instances'] === 2, 'both are registered', 5000)
    await until(async () => (await leaderOf()) !== undefined, 'one leads', 5000)
  })
  after(async () => {
    await Promise.all(instances.map((instance) => instance.stop()))
    await etcd.stop()
  })

  async function statusOf(instance: InstanceProcess): Promise<Record<string, unknown>> {
    return instance.admin('status')
  }
  async function leaderOf(): Promise<InstanceProcess | undefined> {
    const leads = await Promise.all(
      instances.map(async ({ adminUrl }) => (await fetch(`${adminUrl}/leader`)).ok),
    )
    return instances[leads.indexOf(true)]
  }

  test('status shows etcd, its round trip, and that every instance has seen the last change', async () => {
    const { code, stdout } = await instances[0]!.cli('status')
    assert.equal(code, 0)
    assert.match(stdout, /^store {5}ok, etcd, 1\/1 members, round trip [\d.]+ ms$/m)
    assert.match(stdout, /^leader {4}[ab], fence \d+$/m)
    assert.match(stdout, /seen by 2\/2/)
    const { store } = (await statusOf(instances[0]!)) as { store: { members: unknown } }
    assert.deepEqual(store.members, [{ name: 'test', endpoint: etcd.endpoint, ok: true }])
  })

  test('config set on one is in force on the other, and a plain etcdctl put is seen by config diff', async () => {
    const [a, b] = instances
    assert.equal((await a!.cli('config', 'set', 'queue.max_wait=33s')).code, 0)
    await until(
      async () => (await b!.cli('config', 'get', 'queue.max_wait')).stdout === '33s\n',
      'it is in force on b',
      5000,
    )
    await etcdctl(etcd.endpoint, 'put', '/llamero/default/config', 'queue: {max_wiat: 1s}')
    await until(
      async () => (await b!.cli('config', 'get')).stderr.includes('rejected'),
      'it is rejected',
      5000,
    )
    assert.equal((await b!.cli('config', 'get', 'queue.max_wait')).stdout, '33s\n')
    assert.equal((await a!.cli('config', 'diff', '/dev/null')).code, 1)
  })

  test('step-down of a standby names the leader; of the leader, the other leads within half a second', async () => {
    const leader = (await leaderOf())!
    const standby = instances.find((instance) => instance !== leader)!
    const refused = await standby.cli('instance', 'step-down', '-y')
    assert.equal(refused.code, 5)
    assert.ok(refused.stderr.includes(`--admin-url http://${leader.env['LLAMERO_ADMIN']}`), refused.stderr)

    const done = leader.cli('instance', 'step-down', '--to', standby.name, '-y')
    await until(async () => !(await fetch(`${leader.adminUrl}/leader`)).ok, 'it steps down', 5000)
    const took = await until(
      async () => (await fetch(`${standby.adminUrl}/leader`)).ok,
      'the other leads',
      5000,
    )
    const { code, stderr } = await done
    assert.equal(code, 0, stderr)
    assert.match(stderr, new RegExp(`^${standby.name} leads now, fence \\d+; before: ${leader.name}$`, 'm'))
    assert.ok(took <= 500, `${took} ms`)
  })

  test('a status waits less than a second for an etcd that hangs', async () => {
    await etcd.kill('SIGSTOP')
    try {
      const startedAt = performance.now()
      const { store } = (await statusOf(instances[0]!)) as {
        store: { round_trip_ms: unknown; ok: boolean }
      }
      assert.ok(performance.now() - startedAt <= 1000, `${performance.now() - startedAt} ms`)
      assert.deepEqual([store.round_trip_ms, store.ok], [null, false])
    } finally {
      await etcd.kill('SIGCONT')
    }
  })

  test('with etcd down, status says so and works, within a second and a bit', async () => {
    await etcd.kill('SIGTERM')
    const [a] = instances
    await until(
      async () => ((await statusOf(a!)) as { store: { ok: boolean } }).store.ok === false,
      'it is noticed',
      10_000,
    )
    const startedAt = performance.now()
    const { store } = (await statusOf(a!)) as { store: { members: { ok: boolean }[] } }
    const took = performance.now() - startedAt
    assert.ok(took <= 1000, `${took} ms`)
    assert.deepEqual(
      store.members.map(({ ok }) => ok),
      [false],
    )
    const { code, stdout, stderr } = await a!.cli('status')
    assert.equal(code, 0)
    assert.match(stdout, /^store {5}DOWN for .*, serving from memory \(config revision \d+\)$/m)
    assert.match(stderr, /^warning: the store does not answer/m)
    assert.equal((await a!.cli('config', 'get', 'queue.max_wait')).stdout, '33s\n')
    assert.equal((await a!.cli('config', 'set', 'queue.max_length=5')).code, 7)
  })
})
