import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { after, before, suite, test } from 'node:test'
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
    assert.match(instance.log, /node accepts connections and answers nothing/)

    const laterAt = performance.now()
    assert.equal(await askOnce(instance.url, model), null)
    assert(performance.now() - laterAt < 3000, 'a later request does not go there')

    nodes[0]?.child.kill('SIGCONT')
    await until(() => /node answers again/.test(instance.log), 'it is seen to answer', 10_000)
  })
})

/** Of the last request in its log. */
function nodeOfLast({ log }: InstanceProcess): string | undefined {
  return log
    .match(/"node":"[^"]+"/g)
    ?.at(-1)
    ?.slice(8, -1)
}
