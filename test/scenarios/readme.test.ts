import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { freePort, until } from '../support/processes.ts'
import { Shell, shellBlocks } from '../support/shell.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const blocks = shellBlocks(await readFile(join(root, 'README.md'), 'utf8'))

/** A shell for the README's commands, which start their instances themselves: on free ports, so that they can run beside anything. */
async function start(etcd?: Etcd): Promise<Shell> {
  const shell = await Shell.start()
  for (const port of ['11435', '11436', '11437', '11400', '11401', '11402'])
    shell.replace(port, String(await freePort()))
  if (etcd) shell.replace('2379', new URL(etcd.endpoint).port)
  if (etcd) shell.set('ETCDCTL_ENDPOINTS', etcd.endpoint)
  shell.set('LLAMERO_STATE', shell.folder)
  shell.set('LLAMERO_LISTEN', '127.0.0.1:11435')
  shell.set('LLAMERO_ADMIN', '127.0.0.1:11400')
  shell.set('LLAMERO_ADMIN_URL', 'http://127.0.0.1:11400')
  return shell
}

const isUp = (url: string) => async () => (await fetch(url)).ok

suite('the README', () => {
  test('has the blocks that are tested here, and no others', () => {
    assert.deepEqual(
      blocks.map((block) => block.split('\n')[0]?.split(' ').slice(0, 2).join(' ')),
      [
        'npm start',
        'curl http://127.0.0.1:11435/api/chat',
        'export LLAMERO_ETCD=http://127.0.0.1:2379',
        'cat >',
      ],
    )
  })

  test('npm start, then what it says to try', async () => {
    await using shell = await start()
    shell.spawn('npm start', root)
    await until(
      isUp(`http://127.0.0.1:${shell.used('11400')}/readyz?model=llama3.2:3b`),
      'the quick start is ready',
      20_000,
    )
    const commands = blocks[1]?.trim().split('\n') ?? []
    assert.match(await shell.run(commands[0] ?? '', root), /"done":true/)
    assert.match(await shell.run(commands[1] ?? '', root), /3 up/)
    assert.match(await shell.run(commands[2] ?? '', root), /sim-fast/)
    assert.match(await shell.run(commands[3] ?? '', root), /llama3\.2:3b/)
    assert.equal(commands.length, 4)
  })

  test('three instances, and a route by etcdctl', async () => {
    const etcd = await startEtcd()
    try {
      await using shell = await start(etcd)
      const [setting = '', ...commands] = blocks[2]?.trim().split('\n') ?? []
      shell.set('LLAMERO_ETCD', setting.split('=')[1] ?? '')
      for (const command of commands.slice(0, 3)) shell.spawn(command, root)
      for (const port of ['11400', '11401', '11402'])
        await until(isUp(`http://127.0.0.1:${shell.used(port)}/readyz`), `${port} is ready`, 20_000)
      await shell.run(commands[3] ?? '', root)
      const nodes = async () =>
        (
          (await (await fetch(`http://127.0.0.1:${shell.used('11402')}/admin/v1/nodes`)).json()) as {
            nodes: { name: string }[]
          }
        ).nodes
      await until(
        async () => (await nodes()).some(({ name }) => name === 'gpu-1'),
        'the third instance knows the node',
        5000,
      )
      assert.equal(commands.length, 4)

      const [edit = '', look = ''] = (blocks[3] ?? '').split(/(?=etcdctl get)/)
      await shell.run(edit)
      await until(async () => /"ok": *true/.test(await shell.run(look)), 'the verdict is good', 2000)
      assert.match(await etcdctl(etcd.endpoint, 'get', '/llamero/default/routes/chat'), /gpt-\*/)
    } finally {
      await etcd.stop()
    }
  })

  test('npm run build makes a llamero that runs', async () => {
    await using shell = await start()
    await shell.run('npm run build', root)
    assert.match(
      await shell.run(`PATH=${dirname(process.execPath)}:$PATH dist/bin/llamero.js version`, root),
      /^llamero \d+\.\d+\.\d+/,
    )
    assert.match(await shell.run(`${process.execPath} dist/bin/llamero.js env`, root), /LLAMERO_LISTEN/)
  })
})
