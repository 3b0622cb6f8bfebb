import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulator/models.ts'
import { SimulatedNode } from '../../lib/simulator/node.ts'
import { freePort, InstanceProcess, llamero, until } from '../support/processes.ts'

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
    for (const setting of ['LLAMERO_LISTEN', 'LLAMERO_ADMIN']) {
      const { code, stderr } = await serve([], { [setting]: `127.0.0.1:${port}` })
      assert.deepEqual([code, stderr], [1, `error: 127.0.0.1:${port} is in use by another process\n`])
    }
    taken.close()
  })

  test('an unknown flag, exit 2, with the one that was meant', async () => {
    const { code, stderr } = await serve(['--lisen', 'x'])
    assert.equal(code, 2)
    assert.match(stderr, /--lisen[\s\S]*--listen/)
  })

  test('a misspelt variable, exit 2, with the one that was meant', async () => {
    const { code, stderr } = await serve([], { LLAMERO_LISTNE: '0.0.0.0:11434' })
    assert.deepEqual(
      [code, stderr],
      [2, 'error: LLAMERO_LISTNE: is not a setting; did you mean LLAMERO_LISTEN?\n'],
    )
  })

  test('an unknown field in the file, exit 2, with its line and the one that was meant', async () => {
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
      /^error: LLAMERO_ADMIN: "here" is not HOST:PORT\n$/,
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
