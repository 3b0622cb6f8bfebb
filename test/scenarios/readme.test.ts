import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Etcd, etcdctl, findEtcdctl, startEtcd } from '../support/etcd.ts'
import { freePort, until } from '../support/processes.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const readme = await readFile(join(root, 'README.md'), 'utf8')
const blocks = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block ?? '')
const run = promisify(execFile)

/** The README's commands on free ports, in a state of their own, so that they can run beside anything. */
class Shell {
  readonly #ports = new Map<string, string>()
  readonly #env: NodeJS.ProcessEnv
  readonly #children: ChildProcess[] = []
  readonly #state: string

  private constructor(state: string, etcd?: Etcd) {
    this.#state = state
    this.#env = { ...process.env, LLAMERO_LOG_LEVEL: 'error', LLAMERO_STATE: state }
    if (etcd) this.#ports.set('2379', new URL(etcd.endpoint).port)
    if (etcd) this.#env['ETCDCTL_ENDPOINTS'] = etcd.endpoint
  }

  static async start(etcd?: Etcd): Promise<Shell> {
    const shell = new Shell(await mkdtemp(join(tmpdir(), 'llamero-readme-')), etcd)
    for (const port of ['11435', '11436', '11437', '11400', '11401', '11402'])
      shell.#ports.set(port, String(await freePort()))
    shell.#env['LLAMERO_LISTEN'] = `127.0.0.1:${shell.port('11435')}`
    shell.#env['LLAMERO_ADMIN'] = `127.0.0.1:${shell.port('11400')}`
    shell.#env['LLAMERO_ADMIN_URL'] = `http://127.0.0.1:${shell.port('11400')}`
    shell.#env['PATH'] = `${join(await findEtcdctl(), '..')}:${process.env['PATH']}`
    return shell
  }

  port(written: string): string {
    return this.#ports.get(written) ?? written
  }

  set(name: string, value: string): void {
    this.#env[name] = this.#mapped(value)
  }

  /** Resolves to what the commands printed; rejects when one fails. */
  async run(commands: string): Promise<string> {
    const options = { cwd: root, env: this.#env, timeout: 60_000 }
    return (await run('sh', ['-ec', this.#mapped(commands)], options)).stdout
  }

  /** Runs a command until the end of the test. Each has a process group: npm starts processes of its own. */
  spawn(command: string, env: Record<string, string> = {}): void {
    const options = { cwd: root, env: { ...this.#env, ...env }, detached: true, stdio: 'ignore' as const }
    this.#children.push(spawn('sh', ['-ec', this.#mapped(command)], options))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      process.kill(-(child.pid ?? 0), 'SIGKILL')
      await once(child, 'exit')
    }
    await rm(this.#state, { recursive: true, force: true })
  }

  #mapped(text: string): string {
    return text.replace(/\d{4,5}/g, (digits) => this.port(digits))
  }
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
    await using shell = await Shell.start()
    shell.spawn('npm start')
    await until(
      isUp(`http://127.0.0.1:${shell.port('11400')}/readyz?model=llama3.2:3b`),
      'the quick start is ready',
      20_000,
    )
    const commands = blocks[1]?.trim().split('\n') ?? []
    assert.match(await shell.run(commands[0] ?? ''), /"done":true/)
    assert.match(await shell.run(commands[1] ?? ''), /3 up/)
    assert.match(await shell.run(commands[2] ?? ''), /sim-fast/)
    assert.match(await shell.run(commands[3] ?? ''), /llama3\.2:3b/)
    assert.equal(commands.length, 4)
  })

  test('three instances, and a route by etcdctl', async () => {
    const etcd = await startEtcd()
    try {
      await using shell = await Shell.start(etcd)
      const [setting = '', ...commands] = blocks[2]?.trim().split('\n') ?? []
      shell.set('LLAMERO_ETCD', setting.split('=')[1] ?? '')
      for (const command of commands.slice(0, 3)) shell.spawn(command)
      for (const port of ['11400', '11401', '11402'])
        await until(isUp(`http://127.0.0.1:${shell.port(port)}/readyz`), `${port} is ready`, 20_000)
      await shell.run(commands[3] ?? '')
      const nodes = async () =>
        (
          (await (await fetch(`http://127.0.0.1:${shell.port('11402')}/admin/v1/nodes`)).json()) as {
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
      await rm(join(root, 'chat.yaml'), { force: true })
      await etcd.stop()
    }
  })

  test('npm run build makes a llamero that runs', async () => {
    await using shell = await Shell.start()
    await shell.run('npm run build')
    assert.match(await shell.run(`${process.execPath} dist/bin/llamero.js version`), /^llamero \d+\.\d+\.\d+/)
    assert.match(await shell.run(`${process.execPath} dist/bin/llamero.js env`), /LLAMERO_LISTEN/)
  })
})
