import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { freePort, InstanceProcess, spawnLlamero, until } from '../support/processes.ts'

/** Its answers take minutes: they never end by themselves within a test. */
const endless = aModel({
  name: 'm:1b',
  loadMs: 10,
  decodeTps: 20,
  promptTps: 10_000,
  text: 'word '.repeat(5000),
})
const patience = { LLAMERO_GRACE: '1s', LLAMERO_DRAIN: '500ms' }
const impatient = { LLAMERO_GRACE: '10s', LLAMERO_DRAIN: '60s' }

suite('an instance that is told to stop', { concurrency: 2 }, () => {
  let node: SimulatedNode
  before(async () => {
    node = await SimulatedNode.start({ name: 'n', models: [endless], numParallel: 8 })
  })
  after(() => node.stop())

  async function start(name: string, settings: Record<string, string>, slots = 8) {
    const instance = await InstanceProcess.start(name, settings)
    try {
      const token = await readFile(join(instance.env['LLAMERO_STATE'] ?? '', 'admin-token'), 'utf8')
      const added = await fetch(`${instance.adminUrl}/admin/v1/nodes/n`, {
        method: 'PUT',
        headers: { authorization: `Bearer ${token.trim()}`, 'content-type': 'application/json' },
        body: JSON.stringify({ url: node.url, slots }),
      })
      assert.equal(added.status, 201)
      const isServed = async () => (await fetch(`${instance.adminUrl}/readyz?model=m:1b`)).ok
      await until(isServed, 'the model is served', 5000)
    } catch (error) {
      await instance.stop()
      throw error
    }
    return Object.assign(instance, { [Symbol.asyncDispose]: () => instance.stop() })
  }

  test('accepts until the grace ends, then ends every answer with an error, refuses waiting requests, and exits with 0 (196)', async () => {
    await using instance = await start('draining', patience, 2)
    const native = await ask(instance, '/api/chat')
    const openai = await ask(instance, '/v1/chat/completions')
    const queued = ask(instance, '/api/chat')
    await until(() => native.text !== '' && openai.text !== '', 'both stream', 3000)
    instance.signal('SIGTERM')
    const ready = async () => (await fetch(`${instance.adminUrl}/readyz`)).status
    await until(async () => (await ready()) === 503, 'it is unready', 500)
    assert.equal((await fetch(`${instance.url}/api/version`)).status, 200, 'in its grace')
    const refused = await queued
    await refused.ended
    assert.deepEqual([refused.status, refused.headers.get('retry-after')], [503, '1'])
    assert.match(refused.text, /^\{"error":"this instance is shutting down; send the request again"\}$/)
    for (const answer of [native, openai]) assert.equal(await answer.ended, 'cut', 'no proper end')
    assert.match(native.text, /\n\{"error":"this instance is shutting down; send the request again"\}\n$/)
    assert.match(openai.text, /\n\ndata: \{"error":\{"message":"this instance is shutting down[^\n]*\}\n\n$/)
    assert(!/"done":true|\[DONE\]/.test(native.text + openai.text))
    assert.equal(await instance.exited(), 0)
    assert.match(instance.log, /"message":"stopped"/)
    assert.equal(requestLines(instance.log).filter(({ status }) => status === 499).length, 0)
  })

  test('ends at once, with the last words, when a second SIGTERM comes (195)', async () => {
    await using instance = await start('hurried', impatient)
    const answer = await ask(instance, '/api/chat')
    await until(() => answer.text !== '', 'it streams', 3000)
    instance.signal('SIGTERM')
    await until(() => instance.log.includes('draining'), 'it drains', 2000)
    await sleep(200)
    assert.match(answer.text, /\}\n$/)
    instance.signal('SIGTERM')
    const since = performance.now()
    assert.equal(await answer.ended, 'cut')
    assert.match(answer.text, /\{"error":"this instance is shutting down; send the request again"\}\n$/)
    assert.equal(await instance.exited(), 0)
    const tookMs = performance.now() - since
    assert(tookMs < 2000, `${tookMs} ms`)
  })

  test('drains without a grace by SIGINT, and is not impressed by SIGHUP, SIGPIPE and SIGUSR1 (195)', async () => {
    await using instance = await start('signalled', { ...impatient, LLAMERO_DRAIN: '300ms' })
    const answer = await ask(instance, '/api/chat')
    for (const signal of ['SIGHUP', 'SIGPIPE', 'SIGUSR1'] as const) instance.signal(signal)
    await until(() => instance.log.includes('nothing to reload'), 'SIGHUP is answered', 2000)
    assert.equal((await fetch(`${instance.url}/api/version`)).status, 200)
    assert(!/debugger/i.test(instance.log), instance.log)
    instance.signal('SIGINT')
    const since = performance.now()
    assert.equal(await answer.ended, 'cut')
    assert.equal(await instance.exited(), 0)
    assert(performance.now() - since < 3000, 'no grace')
  })

  test('by an uncaught exception logs it, tells its callers, and exits with 1 within two seconds (197)', async () => {
    const code = "process.on('SIGUSR2',()=>{throw new Error('injected')})"
    await using instance = await start('crashing', { ...impatient, NODE_OPTIONS: preload(code) })
    const answer = await ask(instance, '/api/chat')
    await until(() => answer.text !== '', 'it streams', 3000)
    instance.signal('SIGUSR2')
    const since = performance.now()
    assert.equal(await instance.exited(), 1)
    const tookMs = performance.now() - since
    assert(tookMs < 2000, `${tookMs} ms`)
    assert.equal(await answer.ended, 'cut')
    assert.match(answer.text, /\{"error":"[^"]+"\}\n$/)
    assert.match(instance.log, /"message":"uncaught exception","error":"injected"/)
  })
})

suite('an instance whose log is not read', { concurrency: 3 }, () => {
  const requests = 1200

  /** More lines than the pipe to the reader holds. */
  async function start(env: Record<string, string>) {
    const state = await mkdtemp(join(tmpdir(), 'llamero-unread-'))
    const listen = `127.0.0.1:${await freePort()}`
    const admin = `127.0.0.1:${await freePort()}`
    const child = spawnLlamero(['serve'], {
      LLAMERO_STATE: state,
      LLAMERO_LISTEN: listen,
      LLAMERO_ADMIN: admin,
      LLAMERO_LOG_FORMAT: 'json',
      ...env,
    })
    const ended = once(child, 'exit') as Promise<[number | null]>
    const dispose = async () => {
      child.kill('SIGKILL')
      await ended
      await rm(state, { recursive: true })
    }
    try {
      await until(async () => (await fetch(`http://${admin}/readyz`)).ok, 'it is ready', 15_000)
      for (let n = 0; n < requests; n += 50) {
        await Promise.all(
          Array.from({ length: 50 }, async () => (await fetch(`http://${listen}/api/version`)).text()),
        )
      }
    } catch (error) {
      await dispose()
      throw error
    }
    return { child, ended, [Symbol.asyncDispose]: dispose }
  }

  test('loses no line of it when it is read at last, while the instance stops (P25, 234)', async () => {
    await using instance = await start({ LLAMERO_GRACE: '0s', LLAMERO_DRAIN: '1s' })
    instance.child.kill('SIGTERM')
    await sleep(500)
    assert.equal(instance.child.exitCode, null, 'it waits for its reader')
    let log = ''
    instance.child.stdout.on('data', (chunk) => {
      log += chunk
    })
    await once(instance.child.stdout, 'end')
    assert.deepEqual(await instance.ended, [0, null])
    assert.equal(requestLines(log).length, requests)
    assert.match(log, /"message":"stopped"[^\n]*\n$/)
  })

  test('stops all the same, with 0, when told to (232)', async () => {
    await using instance = await start({ LLAMERO_GRACE: '0s', LLAMERO_DRAIN: '1s' })
    instance.child.kill('SIGTERM')
    assert.deepEqual(await instance.ended, [0, null])
  })

  test('exits with 1 within two seconds of an unhandled rejection all the same (197, 232)', async () => {
    const code = "process.on('SIGUSR2',()=>{Promise.reject(null)})"
    await using instance = await start({ NODE_OPTIONS: preload(code) })
    instance.child.kill('SIGUSR2')
    const since = performance.now()
    assert.deepEqual(await instance.ended, [1, null])
    const tookMs = performance.now() - since
    assert(tookMs < 2000, `${tookMs} ms`)
  })
})

/** Node's option that runs a line of code in the process before its own. */
function preload(code: string): string {
  return `--import=data:text/javascript,${encodeURIComponent(code)}`
}

function requestLines(log: string): Record<string, unknown>[] {
  return log
    .split('\n')
    .filter((line) => line.includes('"message":"request"'))
    .map((line) => JSON.parse(line))
}

/** Asks for an endless answer; resolves with its head. `ended` says whether it was whole. */
async function ask({ url }: InstanceProcess, path: string) {
  const response = await fetch(`${url}${path}`, {
    method: 'POST',
    body: JSON.stringify({ model: 'm:1b', stream: true, messages: [{ role: 'user', content: 'go' }] }),
  })
  const { status, headers } = response
  const answer = { status, headers, text: '', ended: Promise.resolve('') }
  const read = async () => {
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) answer.text += decoder.decode(chunk, { stream: true })
    return 'whole'
  }
  answer.ended = read().catch(() => 'cut')
  return answer
}
