import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { llamero } from '../support/cli.ts'
import { type Etcd, etcdctlPut, startEtcd } from '../support/etcd.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
/** Instances probe for themselves 7 s after the last heartbeat; the rest is for a busy machine. */
const ownProbesMs = 20_000

suite('what operators see of two instances and two nodes while etcd is dead', () => {
  let etcd: Etcd
  let nodes: SimulatedNode[]
  let leader: InstanceProcess
  let standby: InstanceProcess

  before(async () => {
    etcd = await startEtcd()
    nodes = await Promise.all(['n1', 'n2'].map((name) => SimulatedNode.start({ name, models })))
    for (const { name, url } of nodes)
      await etcdctlPut(etcd.endpoint, `/llamero/default/nodes/${name}`, `{url: "${url}", slots: 4}`)
    leader = await InstanceProcess.start('a', { LLAMERO_ETCD: etcd.endpoint })
    await until(async () => (await fetch(`${leader.adminUrl}/leader`)).ok, 'the first one leads', 15_000)
    standby = await InstanceProcess.start('b', { LLAMERO_ETCD: etcd.endpoint })
    for (const instance of [leader, standby])
      await until(async () => (await shown(instance, 'status')).includes('2 up'), 'both nodes are up', 15_000)
    await etcd.kill('SIGKILL')
    const isTold = async () => (await shown(standby, 'status')).includes('DOWN')
    await until(isTold, 'the store is seen to be down', 15_000)
  })
  after(async () => {
    await Promise.all([leader.stop(), standby.stop()])
    await Promise.all(nodes.map((node) => node.stop()))
    await etcd.stop()
  })

  test('every instance finds that a node died, by probes of its own', async () => {
    await nodes[0]?.control.refuse()
    for (const instance of [leader, standby]) {
      const isFound = async () => /^n1 +active +down/m.test(await shown(instance, 'node list'))
      await until(isFound, `${instance.name} tells the dead node`, ownProbesMs)
      assert.match(instance.log, /"node down","node":"n1"/)
      assert.match(await shown(instance, 'status'), /^nodes .*as probed by this instance$/m)
    }
  })

  test('what etcd told last is shown as that, and what to do about etcd', async () => {
    await until(async () => (await leader.admin('status'))['leader'] === null, 'its term is over', 15_000)
    for (const instance of [leader, standby]) {
      const status = await shown(instance, 'status')
      assert.match(status, /^cluster +default, 2 instances \(last known, \S+ ago\), llamero/m)
      assert.match(status, new RegExp(`^instance +${instance.name}, standby`, 'm'))
      assert.match(status, /^leader +unknown; last was a, fence \d+ \(last known, \S+ ago\)$/m)
      assert.match(status, /^store +DOWN for \S+, serving from memory \(config revision \d+\)$/m)
      assert.match(status, /^config +revision .* seen by \d\/2 .*as last known,/m)
      assert.match(status, /^requests .*; of this instance alone$/m)
      assert.match(
        status,
        new RegExp(
          `^warning: the store does not answer.*\n +hint: check etcd: etcdctl endpoint health --endpoints ${etcd.endpoint}; on its machines: systemctl status etcd$`,
          'm',
        ),
      )
      const list = await shown(instance, 'instance list')
      assert.match(list, /^a +(standby|last leader) /m)
      assert.match(
        list,
        /^warning: the store does not answer: the instances are the last known ones, \S+ ago$/m,
      )
    }
    const { source, last_leader } = await standby.admin('status')
    assert.deepEqual([source, (last_leader as { id: string }).id], ['memory', 'a'])
    assert.equal((await standby.admin('instances'))['source'], 'memory')
  })

  test('a refused change names the endpoint, and what to do', async () => {
    const { code, stderr } = await standby.cli('node', 'cordon', 'n2')
    assert.equal(code, 7)
    assert.match(stderr, new RegExp(`^error: the store cannot be reached: .* at ${etcd.endpoint};`))
    assert.match(stderr, new RegExp(`hint: check etcd: etcdctl endpoint health --endpoints ${etcd.endpoint}`))
  })

  test('an instance that restarts meanwhile tells its snapshot, and that it knows no other instance', async () => {
    standby.signal('SIGKILL')
    await standby.exited()
    standby = await InstanceProcess.start('b', standby.env)
    const status = await shown(standby, 'status')
    assert.match(status, /^cluster +default, other instances unknown, llamero/m)
    assert.match(status, /^leader +unknown$/m)
    assert.match(
      status,
      /^store +DOWN, not reached since the start, serving from the snapshot on this instance's disk \(config revision \d+\)$/m,
    )
    assert.match(
      status,
      /^config +stale: snapshot on this instance's disk, revision \d+, 0 documents rejected$/m,
    )
    assert.match(
      await shown(standby, 'instance list'),
      /^warning: the store has not answered since the start/m,
    )
  })
})

async function shown({ adminUrl: url }: InstanceProcess, line: string): Promise<string> {
  const { out, err } = await llamero(line, { url })
  return out + err
}
