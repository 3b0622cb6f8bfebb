import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { after, before, suite, test } from 'node:test'
import type { NodeAnswer } from '../../lib/api/nodes.ts'
import { llamero } from '../support/cli.ts'
import { type Etcd, etcdctlPut, startEtcd } from '../support/etcd.ts'
import { askOnce } from '../support/load.ts'
import { executable, InstanceProcess, until } from '../support/processes.ts'

const model = 'llama3.2:3b'
/** A node is found to be frozen 6 s after it is asked; then the model is loaded elsewhere, on a busy machine. */
const mostMs = 10_000

/**
 * Nodes in processes of their own: a stopped one takes connections and acknowledges bytes, as a suspended machine or a server
 * that hangs does. The instance is a fresh one and knows no times of the model.
 */
suite('an instance and two nodes, one of which is frozen', () => {
  let etcd: Etcd
  let nodes: { readonly name: string; readonly child: ChildProcess }[]
  let instance: InstanceProcess

  before(async () => {
    etcd = await startEtcd()
    nodes = await Promise.all(
      ['n1', 'n2'].map(async (name) => {
        const args = ['simulate', 'node', name, '--speed', '20', '--slots', '4', '--model', model]
        const child = fork(executable, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
        const [{ url }] = (await once(child, 'message')) as [{ url: string }]
        const document = { url, slots: 4, weight: name === 'n1' ? 8 : 1 }
        await etcdctlPut(etcd.endpoint, `/llamero/default/nodes/${name}`, JSON.stringify(document))
        return { name, child }
      }),
    )
    instance = await InstanceProcess.start('a', { LLAMERO_ETCD: etcd.endpoint })
    const isReady = async () => (await fetch(`${instance.adminUrl}/readyz?model=${model}`)).ok
    await until(isReady, 'it routes', 15_000)
    const asked = async () => (await askOnce(instance.url, model)) === null && nodeOfLast(instance) === 'n1'
    await until(asked, 'n1 answers', 15_000)
  })
  after(async () => {
    for (const { child } of nodes) child.kill('SIGKILL')
    await instance.stop()
    await etcd.stop()
  })

  test('answers whole and streamed requests by the other within seconds, and later ones at once (305)', async () => {
    nodes[0]?.child.kill('SIGSTOP')
    const since = performance.now()
    const streams = [true, false, true, false]
    const failures = await Promise.all(streams.map((stream) => askOnce(instance.url, model, { stream })))
    const tookMs = Math.round(performance.now() - since)
    assert.deepEqual(failures.filter(Boolean), [], instance.log)
    assert(tookMs > 3000 && tookMs < mostMs, `n1 was asked, and left within ${tookMs} ms\n${instance.log}`)
    assert.match(instance.log, /node is frozen: it accepts connections and answers nothing/)

    const laterAt = performance.now()
    assert.equal(await askOnce(instance.url, model), null)
    assert(performance.now() - laterAt < 3000, 'a later request does not go there')

    const shown = await shownOf(instance, 'n1')
    assert.match(shown.status, /^(frozen: n1|slow: n1 \(frozen)/m)
    assert.match(shown.status, /hint: check whether the machine of the frozen node, or Ollama there, hangs/)
    assert.match(
      shown.list,
      /^n1 +active +(up|slow) \(frozen.*check whether its machine or Ollama there hangs/m,
    )
    assert.match(shown.show, /^reason .*frozen: it accepts connections and answers nothing/m)
    assert.deepEqual([shown.frozen, shown.metric], [true, '1'])

    nodes[0]?.child.kill('SIGCONT')
    await until(
      () => /node is no longer frozen: it answers again/.test(instance.log),
      'it is seen to answer',
      10_000,
    )
    const later = await shownOf(instance, 'n1')
    assert.doesNotMatch(later.status + later.list + later.show, /frozen/)
    assert.deepEqual([later.frozen, later.metric], [false, '0'])
  })
})

/** What operators and Prometheus see of a node. */
async function shownOf({ adminUrl: url }: InstanceProcess, name: string) {
  const [status, list, show] = await Promise.all(
    ['status', 'node list', `node show ${name}`].map(async (line) => (await llamero(line, { url })).out),
  )
  const node = (await (await fetch(`${url}/admin/v1/nodes/${name}`)).json()) as NodeAnswer
  const metrics = await (await fetch(`${url}/metrics`)).text()
  const metric = new RegExp(`^llamero_node_frozen{node="${name}"} (.*)$`, 'm').exec(metrics)?.[1]
  return { status: status ?? '', list: list ?? '', show: show ?? '', frozen: node.frozen, metric }
}

/** Of the last request in its log. */
function nodeOfLast({ log }: InstanceProcess): string | undefined {
  return log
    .match(/"node":"[^"]+"/g)
    ?.at(-1)
    ?.slice(8, -1)
}
