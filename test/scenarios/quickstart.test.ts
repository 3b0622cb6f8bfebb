import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { askOnce } from '../support/load.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const model = 'llama3.2:3b'

suite('the quick start', () => {
  let instance: InstanceProcess
  before(async () => {
    instance = await InstanceProcess.start('quick', {}, 'quickstart')
    await until(() => instance.log.includes('Ctrl-C stops it'), 'the welcome is printed', 10_000)
  })
  after(() => instance.stop())

  test('says where it listens, what is simulated, and what to try', () => {
    assert.match(instance.log, new RegExp(`data +${instance.url} +speaks Ollama, OpenAI and Anthropic`))
    assert.match(instance.log, /sim-fast .*simulated, pid \d+/)
    assert.match(instance.log, /curl http:\/\/127\.0\.0\.1:\d+\/api\/chat/)
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

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
