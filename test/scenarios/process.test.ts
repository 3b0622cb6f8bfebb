import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { executable, freePort, InstanceProcess, llamero, until } from '../support/processes.ts'

suite('llamero serve that cannot start says so in one line:', () => {
  let state: string
  before(async () => {
    state = await mkdtemp(join(tmpdir(), 'llamero-process-'))
  })
  after(() => rm(state, { recursive: true }))

  const serve = async (args: readonly string[], env = {}) => {
    const free = {
      LLAMERO_LISTEN: `127.0.0.1:${await freePort()}`,
      LLAMERO_ADMIN: `127.0.0.1:${await freePort()}`,
    }
    return llamero(['serve', ...args], { LLAMERO_STATE: state, ...free, ...env })
  }

  test('a port in use, exit 1', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => taken.once('listening', resolve))
    const { port } = taken.address() as { port: number }
    for (const [setting, flag] of [
      ['LLAMERO_LISTEN', '--listen'],
      ['LLAMERO_ADMIN', '--admin'],
    ] as const) {
      const { code, stderr } = await serve([], { [setting]: `127.0.0.1:${port}` })
      assert.equal(code, 1)
      assert.match(
        stderr,
        new RegExp(
          `^error: 127.0.0.1:${port} is in use by another process: stop that one, or .*${flag} or ${setting}\n$`,
        ),
      )
    }
    taken.close()
  })

  test('an address of another machine, and a name that none has, exit 1', async () => {
    for (const [host, reason] of [
      ['192.0.2.1', 'is not an address of this machine'],
      ['nowhere.invalid', '(no address is known for|cannot be looked up)'],
    ] as const) {
      const { code, stdout, stderr } = await serve([], { LLAMERO_LISTEN: `${host}:${await freePort()}` })
      assert.deepEqual([code, stdout], [1, ''])
      assert.match(stderr, new RegExp(`^error: .*${reason}.* --listen or LLAMERO_LISTEN[^\n]*\n$`))
    }
  })

  test('a state directory that cannot be one, exit 1', async () => {
    const file = join(state, 'file')
    await writeFile(file, '')
    for (const [path, reason] of [
      [file, 'is a file'],
      [join(file, 'below'), 'lies under a file'],
    ] as const) {
      const { code, stderr } = await serve(['--state', path])
      assert.equal(code, 1)
      assert.match(stderr, new RegExp(`^error: ${path} ${reason}.* --state or LLAMERO_STATE\n$`))
    }
  })

  test('an unknown flag, exit 2, with a similar one', async () => {
    const { code, stderr } = await serve(['--lisen', 'x'])
    assert.equal(code, 2)
    assert.match(stderr, /--lisen[\s\S]*--listen/)
  })

  test('a misspelt variable, exit 2, with a similar one', async () => {
    const { code, stderr } = await serve([], { LLAMERO_LISTNE: '0.0.0.0:11434' })
    assert.deepEqual(
      [code, stderr],
      [2, 'error: LLAMERO_LISTNE: is not a setting; did you mean LLAMERO_LISTEN?\n'],
    )
  })

  test('an unknown field in the file, exit 2, with its line and a similar one', async () => {
    const file = join(state, 'llamero.yaml')
    await writeFile(file, '# mine\nlog_levle: debug\n')
    const { code, stderr } = await serve(['--config', file])
    assert.equal(code, 2)
    assert.match(stderr, /line 2: log_levle: is not a known field \(did you mean "log_level"\?\)\n$/)
  })

  test('a wrong value, exit 2, with where it came from', async () => {
    assert.match(
      (await serve(['--log-level', 'loud'])).stderr,
      /^error: --log-level: "loud" is not one of error, warn, info, debug\n$/,
    )
    assert.match(
      (await serve([], { LLAMERO_ADMIN: 'here' })).stderr,
      /^error: LLAMERO_ADMIN: "here" is not HOST:PORT, such as 127\.0\.0\.1:11434\n$/,
    )
    assert.equal((await serve([], { LLAMERO_NAME: 'a/b' })).code, 2)
  })

  test('a state directory that is taken by a living instance, exit 1', async () => {
    const first = await InstanceProcess.start('first')
    const { code, stderr } = await serve([], { LLAMERO_STATE: first.env['LLAMERO_STATE'] })
    await first.stop()
    assert.equal(code, 1)
    assert.match(stderr, /^error: [^\n]+\n$/)
  })
})

suite('an instance whose log cannot be written', { skip: process.platform !== 'linux' }, () => {
  test('reports it once on standard error, with the remedy, and goes on serving', async () => {
    const state = await mkdtemp(join(tmpdir(), 'llamero-process-'))
    const admin = `127.0.0.1:${await freePort()}`
    const full = await open('/dev/full', 'w')
    const args = [executable, 'serve', '--state', state, '--admin', admin, '--listen', '127.0.0.1:0']
    const child = spawn(process.execPath, args, { stdio: ['ignore', full.fd, 'pipe'] })
    try {
      let said = ''
      child.stderr?.on('data', (chunk) => (said += chunk))
      await until(async () => (await fetch(`http://${admin}/livez`)).ok, 'it serves', 15_000)
      await until(() => said.includes('\n'), 'it says so', 5000)
      assert.match(
        said,
        /^error: the log cannot be written to standard output \(ENOSPC\).*free space[^\n]*\n$/,
      )
    } finally {
      child.kill('SIGKILL')
      await full.close()
      await rm(state, { recursive: true })
    }
  })
})

suite('an instance that is told to stop', () => {
  test('is unready at once, lets the running answer end, and exits with 0', async () => {
    const node = await SimulatedNode.start({
      name: 'n',
      models: [aModel({ name: 'm:1b', loadMs: 10, decodeTps: 20, promptTps: 10_000 })],
    })
    const instance = await InstanceProcess.start('leaving')
    try {
      assert.equal((await instance.cli('node', 'add', 'n', node.url)).code, 0)
      await until(
        async () => (await fetch(`${instance.adminUrl}/readyz?model=m:1b`)).ok,
        'the model is served',
        5000,
      )
      const answer = await fetch(`${instance.url}/api/chat`, {
        method: 'POST',
        body: JSON.stringify({ model: 'm:1b', messages: [{ role: 'user', content: 'go' }] }),
      })
      instance.signal('SIGTERM')
      await until(
        async () => (await fetch(`${instance.adminUrl}/readyz`)).status === 503,
        'it is unready',
        500,
      )
      assert.match(await answer.text(), /"done":true[^\n]*\n$/)
      assert.equal(await instance.exited(), 0)
      assert.match(instance.log, /"message":"stopped"/)
    } finally {
      await instance.stop()
      await node.stop()
    }
  })

  test('stops at once when told a second time', async () => {
    const instance = await InstanceProcess.start('hurried')
    instance.signal('SIGTERM')
    await until(() => instance.log.includes('draining'), 'it drains', 2000)
    instance.signal('SIGTERM')
    const since = performance.now()
    assert.equal(await instance.exited(), 0)
    assert(performance.now() - since < 2000)
    await instance.stop()
  })

  test('keeps its nodes for the next start', async () => {
    const instance = await InstanceProcess.start('again')
    assert.equal((await instance.cli('node', 'add', 'kept', 'http://127.0.0.1:9')).code, 0)
    instance.signal('SIGKILL')
    await instance.exited()
    const next = await InstanceProcess.start('again', { LLAMERO_STATE: instance.env['LLAMERO_STATE'] ?? '' })
    assert.match((await next.cli('node', 'list')).stdout, /^kept /m)
    await next.stop()
  })
})
