import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { askOnce } from '../support/load.ts'
import { freePort, InstanceProcess, until } from '../support/processes.ts'

const model = 'llama3.2:3b'
const root = fileURLToPath(new URL('../..', import.meta.url))

suite('the quick start', () => {
  let instance: InstanceProcess
  /** What came of the request that was sent as soon as the port was open: null when it was answered to its end. */
  let first: string | null
  before(async () => {
    const port = await freePort()
    const settings = { LLAMERO_LISTEN: `127.0.0.1:${port}` }
    const starting = InstanceProcess.start('quick', settings, 'quickstart')
    starting.catch(() => {})
    await until(() => isOpen(port), 'the port is open', 30_000)
    first = await askOnce(`http://127.0.0.1:${port}`, model)
    instance = await starting
    await until(() => instance.log.includes('Ctrl-C stops it'), 'the welcome is printed', 10_000)
  })
  after(() => instance.stop())

  test('says where it listens, what is simulated, and what to try', () => {
    assert.match(instance.log, new RegExp(`data +${instance.url} +speaks Ollama, OpenAI and Anthropic`))
    assert.match(instance.log, /sim-fast .*simulated, pid \d+/)
    assert.match(instance.log, /curl http:\/\/127\.0\.0\.1:\d+\/api\/chat/)
  })

  test('opens its port when its nodes are known: the first request is answered', () => {
    assert.equal(first, null)
  })

  test('streams a chat to its end', async () => {
    assert.equal(await askOnce(instance.url, model, { stream: true }), null)
  })

  test('a node killed during 200 requests costs none of those that had not begun to stream', async () => {
    const pid = Number(/sim-fast .*pid (\d+)/.exec(instance.log)?.[1])
    const results: (string | null)[] = []
    const worker = async () => {
      while (results.length < 200) {
        const slot = results.push('pending') - 1
        results[slot] = await askOnce(instance.url, model, { tokens: 12 })
        if (slot === 60) process.kill(pid, 'SIGKILL')
      }
    }
    await Promise.all(Array.from({ length: 10 }, worker))
    assert.deepEqual(
      results.filter((result) => result !== null),
      [],
    )
    assert.equal(results.length, 200)
  })

  test('ends on SIGINT with code 0 and takes its nodes along', async () => {
    const pids = [...instance.log.matchAll(/pid (\d+)/g)].map(([, pid]) => Number(pid))
    instance.signal('SIGINT')
    assert.equal(await instance.exited(), 0)
    await until(() => pids.every((pid) => !isAlive(pid)), 'the simulated nodes have ended', 5000)
  })
})

test('the quick start off loopback prints how to make a key, and a request that works with it', async () => {
  const settings = { LLAMERO_LISTEN: `0.0.0.0:${await freePort()}` }
  const instance = await InstanceProcess.start('open', settings, 'quickstart')
  try {
    await until(() => instance.log.includes('Ctrl-C stops it'), 'the welcome is printed', 10_000)
    const [tried = ''] = /^ {2}KEY=.*\n {2}curl .*$/m.exec(instance.log) ?? []
    const { LLAMERO_STATE, LLAMERO_ADMIN_URL } = instance.env
    const env = { ...process.env, LLAMERO_STATE, LLAMERO_ADMIN_URL }
    const { stdout } = await promisify(execFile)('sh', ['-ec', tried], { env, cwd: root })
    assert.match(stdout, /"done":true/)
  } finally {
    await instance.stop()
  }
})

async function isOpen(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } finally {
    socket.destroy()
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
