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
})

async function shown({ adminUrl: url }: InstanceProcess, line: string): Promise<string> {
  const { out, err } = await llamero(line, { url })
  return out + err
}
