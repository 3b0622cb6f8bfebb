import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startApp } from '../../lib/app.ts'
import { adminTokenFile } from '../../lib/settings/admin-token.ts'
import { loadSettings } from '../../lib/settings/settings.ts'
import { quickstartModels } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { commandFor } from '../support/cli-in-process.ts'
import { startEtcd } from '../support/etcd.ts'
import { until } from '../support/processes.ts'
import { Shell, shellBlocks } from '../support/shell.ts'

const docs = fileURLToPath(new URL('../../docs', import.meta.url))

interface World {
  readonly shell: Shell
  /** Whether every registered node is known and was probed: within moments, which a reader takes for reading on. */
  readonly isProbed: () => boolean
}

/** An instance on an etcd of its own and two Ollama servers, at the addresses that the pages write. */
async function startWorld(stack: AsyncDisposableStack, isEmpty: boolean): Promise<World> {
  const etcd = await startEtcd()
  stack.defer(() => etcd.stop())
  const shell = stack.use(await Shell.start())
  const flags = { listen: '127.0.0.1:0', admin: '127.0.0.1:0', name: 'a', 'log-level': 'error' }
  const app = await startApp(await loadSettings({ ...flags, etcd: etcd.endpoint, state: shell.folder }))
  stack.defer(() => app.stop())
  const given = { models: quickstartModels, registry: quickstartModels, speed: 8 }
  for (const [at, name] of ['gpu-1', 'gpu-2'].entries()) {
    const node = await SimulatedNode.start({ ...given, name })
    stack.defer(() => node.stop())
    shell.replace(`http://10.0.0.1${at + 1}:11434`, node.url)
    const put = { type: 'put', key: app.keys.node(name), value: `url: ${node.url}` } as const
    if (!isEmpty) await app.store.commit({ when: [], apply: [put] })
  }
  shell.replace('127.0.0.1:11435', `127.0.0.1:${app.data.port}`)
  shell.replace('127.0.0.1:11400', `127.0.0.1:${app.admin.port}`)
  shell.set('ETCDCTL_ENDPOINTS', etcd.endpoint)
  const token = (await readFile(adminTokenFile(shell.folder), 'utf8')).trim()
  const adminUrl = `http://127.0.0.1:${app.admin.port}`
  const llamero = await commandFor({ adminUrl, adminToken: () => token })
  stack.defer(llamero.stop)
  await shell.install('llamero', llamero.script)
  // Commands that run here find the files of their shell.
  stack.defer(() => process.chdir(docs))
  process.chdir(shell.folder)
  await until(async () => app.snapshot.isReady, 'the instance knows what is stored', 10_000)
  const nodes = () => [...app.snapshot.get().nodes.values()]
  const stored = isEmpty ? 0 : 2
  return { shell, isProbed: () => nodes().length >= stored && nodes().every(({ status }) => status !== null) }
}

suite('the shell blocks of the documentation', async () => {
  for await (const path of glob('**/*.md', { cwd: docs })) {
    const page = await readFile(join(docs, path), 'utf8')
    const blocks = shellBlocks(page)
    if (blocks.length === 0) continue
    test(`run as they stand in docs/${path}`, async () => {
      await using stack = new AsyncDisposableStack()
      const { shell, isProbed } = await startWorld(stack, blocks.join('').includes('llamero node add'))
      for (const block of blocks) {
        const [commands = '', look] = block.split(/^(?=etcdctl get .*\/status\/)/m)
        await until(async () => isProbed(), 'every node was probed', 10_000)
        await shell.run(commands)
        if (look)
          await until(async () => /"ok": *true/.test(await shell.run(look)), `a verdict: ${look}`, 5000)
      }
    })
  }
})
