import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, suite, test } from 'node:test'
import { parse } from 'yaml'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { KeyLayout } from '../../lib/store/key-layout.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { askOnce } from '../support/load.ts'
import { InstanceProcess, llamero, spawnLlamero, until } from '../support/processes.ts'

const keys = new KeyLayout('default')
const key = keys.node('gpu-1')
const ttlMs = 10_000

suite('llamero agent', () => {
  let etcd: Etcd
  let store: EtcdStore
  let instance: InstanceProcess
  let tools: string
  let ollama: SimulatedNode
  let agent: ReturnType<typeof spawnLlamero>
  let log: string

  before(async () => {
    etcd = await startEtcd()
    store = new EtcdStore({ endpoints: [etcd.endpoint], clock: new RealClock(), log: silentLog })
    instance = await InstanceProcess.start('a', { LLAMERO_ETCD: etcd.endpoint })
    tools = await mkdtemp(join(tmpdir(), 'llamero-tools-'))
    await writeFile(join(tools, 'nvidia-smi'), "#!/bin/sh\necho 'NVIDIA L4, 23034'\n", { mode: 0o755 })
  })
  after(async () => {
    agent.kill('SIGKILL') // one that a hook left behind
    await instance.stop()
    await store.close()
    await etcd.stop()
    await rm(tools, { recursive: true })
  })

  const anOllama = (port = 0) =>
    SimulatedNode.start({
      name: 'gpu-1',
      port,
      models: [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })],
    })

  beforeEach(async () => {
    ollama = await anOllama()
    const node = ['--ollama', ollama.url, '--announce', ollama.url, '--name', 'gpu-1', '--slots', '2']
    agent = spawnLlamero(['agent', ...node, '--label', 'zone=a', '--label', 'gpus=7'], {
      LLAMERO_ETCD: etcd.endpoint,
      LLAMERO_LOG_FORMAT: 'json',
      PATH: `${tools}:${process.env['PATH']}`,
    })
    log = ''
    agent.stdout.on('data', (chunk) => (log += chunk))
    agent.stderr.on('data', (chunk) => (log += chunk))
    await until(stands, 'the agent has registered gpu-1', 10_000)
  })
  afterEach(async () => {
    if (agent.exitCode === null && agent.signalCode === null) {
      agent.kill('SIGTERM')
      await once(agent, 'exit')
    }
    await ollama.stop()
    await store.commit({ when: [], apply: [{ type: 'delete', key }] })
  })

  const entry = () => store.get(key)
  const stands = async () => (await entry()) !== null
  const isGone = async () => (await entry()) === null

  test('registers a node with its labels, which then serves requests', async () => {
    const { lease, value } = (await entry())!
    assert.ok(lease)
    assert.deepEqual(JSON.parse(value), {
      url: ollama.url,
      slots: 2,
      labels: { gpu: 'NVIDIA L4', vram_mib: '23034', gpus: '7', zone: 'a' },
    })
    await until(async () => (await askOnce(instance.url, 'm:1b')) === null, 'it answers', 5000)
    assert.equal((await instance.admin('nodes/gpu-1'))['source'], 'agent')
    assert.match((await instance.cli('node', 'list', '-o', 'wide')).stdout, /SOURCE[\s\S]*gpu-1 .* agent /)
  })

  test('withdraws it when the local Ollama stops, and registers it again when that is back', async () => {
    const { port } = new URL(ollama.url)
    await ollama.stop()
    await until(isGone, 'the node is gone', 6000)
    await until(
      () => log.includes('"message":"node withdrawn: the local Ollama does not answer"'),
      'it says why',
      1000,
    )
    ollama = await anOllama(Number(port))
    await until(stands, 'the node is back', 8000)
  })

  test('withdraws it at once on SIGTERM, and exits with 0', async () => {
    agent.kill('SIGTERM')
    const tookMs = await until(isGone, 'the node is gone', 2000)
    assert.ok(tookMs <= 1000, `${tookMs} ms`)
    if (agent.exitCode === null) await once(agent, 'exit')
    assert.equal(agent.exitCode, 0)
  })

  test('when its host dies the node is gone within one TTL', async () => {
    agent.kill('SIGKILL')
    const tookMs = await until(isGone, 'the node is gone', ttlMs + 5000)
    assert.ok(tookMs <= ttlMs + 1000, `${tookMs} ms`)
  })

  test('a fleet that departed is no typo: 503 with Retry-After, listed, told, until it is removed (310)', async () => {
    await until(async () => (await askOnce(instance.url, 'm:1b')) === null, 'it answers', 5000)
    agent.kill('SIGTERM')
    await ollama.stop()
    await until(isGone, 'the node is gone', 2000)
    const ask = (path: string, body?: object) =>
      fetch(`${instance.url}${path}`, body ? { method: 'POST', body: JSON.stringify(body) } : {})
    const chat = { model: 'm:1b', messages: [{ role: 'user', content: 'hi' }] }
    // The store says so a moment before the instance has heard it.
    await until(async () => (await ask('/api/chat', chat)).status === 503, 'callers are told', 2000)
    for (const path of ['/api/chat', '/v1/chat/completions', '/v1/messages']) {
      const refused = await ask(path, { ...chat, max_tokens: 5 })
      assert.equal(refused.status, 503, path)
      assert.match(
        await refused.text(),
        /no Ollama server that has model 'm:1b' can take requests for it: .* \(not registered any more\)/,
      )
      assert.ok(Number(refused.headers.get('retry-after')) > 0)
    }
    assert.equal((await ask('/api/chat', { ...chat, model: 'typo' })).status, 404)
    assert.match(await (await ask('/api/tags')).text(), /"m:1b"/)

    const { stdout } = await instance.cli('status')
    assert.match(stdout, /^nodes +1: 0 up, 0 down, 0 cordoned, 1 departed$/m)
    assert.match(stdout, /^departed: gpu-1 since .*: its agent was stopped; it had m:1b$/m)
    assert.match((await instance.cli('node', 'list')).stdout, /^gpu-1 +departed +down /m)
    const metrics = await (await fetch(`${instance.adminUrl}/metrics`)).text()
    assert.match(metrics, /^llamero_nodes_departed 1$/m)
    assert.match(metrics, /^llamero_node_up\{node="gpu-1"\} 0$/m)
    assert.match(
      (await instance.cli('node', 'cordon', 'gpu-1')).stderr,
      /no longer registered \(its agent was stopped/,
    )

    assert.equal((await instance.cli('node', 'remove', 'gpu-1', '--yes')).code, 0)
    await until(
      async () => !(await (await ask('/api/tags')).text()).includes('m:1b'),
      'it is forgotten',
      3000,
    )
    assert.doesNotMatch((await instance.cli('status')).stdout, /departed/)
    ollama = await anOllama()
  })

  test("yields to an operator's document, whose verdict warns, and takes over when that is removed", async () => {
    const verdict = async () => {
      const text = await etcdctl(etcd.endpoint, 'get', '--print-value-only', keys.verdict(key))
      return JSON.parse(text) as { ok: boolean; warnings?: string[] }
    }
    await until(async () => (await verdict()).ok, "there is a verdict on the agent's document", 3000)
    assert.equal((await verdict()).warnings, undefined)
    await etcdctl(etcd.endpoint, 'put', key, 'url: http://127.0.0.1:9\n')
    await until(async () => (await verdict()).warnings !== undefined, 'the verdict warns', 3000)
    const { ok, warnings = [] } = await verdict()
    assert.equal(ok, true, 'it is in force all the same')
    assert.ok(warnings[0]?.includes(`an agent announces ${ollama.url} under this name`), warnings[0])
    await until(() => log.includes("an operator's document has the name"), 'the agent says so', 5000)
    assert.equal((await entry())?.value, 'url: http://127.0.0.1:9\n')
    assert.equal((await instance.admin('nodes/gpu-1'))['source'], 'operator')
    await etcdctl(etcd.endpoint, 'del', key)
    await until(async () => Boolean((await entry())?.lease), 'the agent has taken over', 5000)
    await until(async () => (await verdict()).warnings === undefined, 'the warning is gone', 3000)
  })

  test('an edit by an operator makes the node theirs: it outlives the agent', async () => {
    assert.equal((await instance.cli('node', 'cordon', 'gpu-1')).code, 0)
    agent.kill('SIGTERM')
    await once(agent, 'exit')
    const { lease, value } = (await entry())!
    assert.equal(lease, null)
    const { url, state } = parse(value)
    assert.deepEqual([url, state], [ollama.url, 'cordoned'])
  })
})

test('llamero agent without etcd exits with 2 and names the setting it needs', async () => {
  const { code, stderr } = await llamero(['agent', '--announce', 'http://gpu-1:11434'])
  assert.equal(code, 2)
  assert.equal(
    stderr,
    'error: an agent needs the etcd that the instances share\n  hint: set LLAMERO_ETCD=http://HOST:2379\n',
  )
})

test('llamero agent with a node that cannot be ends with 2 and names the field', async () => {
  const { code, stderr } = await llamero(['agent', '--announce', 'http://gpu-1:11434', '--slots', '5000'], {
    LLAMERO_ETCD: 'http://127.0.0.1:1',
  })
  assert.equal(code, 2)
  assert.match(stderr, /^error: .*slots: .*\n$/)
})
