import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, suite, test } from 'node:test'
import { Ollama } from 'ollama'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import type { Scope } from '../../lib/fleet/scopes.ts'
import { ProxyError } from '../../lib/shared/errors.ts'
import { inRanges, isRange } from '../../lib/shared/net/address.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { progress } from '../support/jobs.ts'
import { eventually } from '../support/wire.ts'

const tokens = { admin: 'llm_admin', user: 'llm_user', both: 'llm_both' }
const aKey = (token: string, scopes: Scope[]) =>
  apiKeySchema.parse({ hash: hashToken(token), scopes, tenant: 'ops' })
const keys = new Map([
  ['admin', aKey(tokens.admin, ['admin'])],
  ['user', aKey(tokens.user, ['inference'])],
  ['both', aKey(tokens.both, ['inference', 'admin'])],
])
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const nodes = [
  { name: 'a', models: ['m:latest'] },
  { name: 'b', models: ['m:latest'] },
]
type Gateway = Awaited<ReturnType<typeof startGateway>>

const ask = (gateway: Gateway, path: string, body: object, init: RequestInit = {}) =>
  fetch(gateway.url + path, {
    method: path === '/api/delete' ? 'DELETE' : 'POST',
    headers: bearer(tokens.admin),
    body: JSON.stringify(body),
    ...init,
  })
const linesOf = async (response: Response) =>
  (await response.text())
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

suite('who may change models', () => {
  const statusOf = async (gateway: Gateway, headers: Record<string, string>, path = '/api/pull') =>
    (await ask(gateway, path, { model: 'm', stream: false, messages: [] }, { headers })).status

  test('has a key of scope admin, which need not be one for anything else', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes, keys }), { loopback: false })
    gateway.jobs.outcome = { a: progress({ state: 'done' }), b: progress({ state: 'done' }) }
    assert.equal(await statusOf(gateway, bearer(tokens.admin)), 200)
    assert.equal(await statusOf(gateway, bearer(tokens.both)), 200)
    assert.equal(await statusOf(gateway, bearer(tokens.user)), 403)
    assert.equal(await statusOf(gateway, bearer('llm_unknown')), 401)
    assert.equal(await statusOf(gateway, { ...bearer('llm_unknown'), 'user-agent': 'ollama/0.32' }), 403)
    assert.equal(await statusOf(gateway, bearer(tokens.admin), '/api/chat'), 403)
  })

  test('no caller without a key, on loopback too', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes, keys }))
    assert.equal(await statusOf(gateway, {}), 403)
    assert.equal(await statusOf(gateway, bearer('any')), 403)
    assert.deepEqual(gateway.jobs.list(), [])
  })

  for (const cidr of ['127.0.0.1/32', '127.0.0.0/8', '0.0.0.0/0']) {
    test(`is whoever calls from ${cidr}, where the configuration says so`, async () => {
      const addresses = [
        { cidr: ['10.0.0.0/8', '::1/128'], tenant: 'others' },
        { cidr: [cidr], tenant: 'local', scopes: ['admin'] },
      ]
      const config = { auth: { addresses } }
      await using gateway = await startGateway(aSnapshot({ nodes, keys, config }), { loopback: false })
      gateway.jobs.outcome = { a: progress({ state: 'done' }) }
      assert.equal(await statusOf(gateway, {}), 200)
      assert.equal(gateway.jobs.list()[0]?.spec.tenant, 'local')
      assert.equal(await statusOf(gateway, {}, '/api/chat'), 403, 'and no more than it says')
      assert.equal(await statusOf(gateway, bearer(tokens.user)), 403, 'a key counts before the address')
    })
  }

  test('no caller that only claims such an address in a header', async () => {
    const config = { auth: { addresses: [{ cidr: ['10.0.0.0/8'], scopes: ['admin'] }] } }
    await using gateway = await startGateway(aSnapshot({ nodes, keys, config }), { loopback: false })
    const forged = { 'x-forwarded-for': '10.0.0.1', forwarded: 'for=10.0.0.1', 'x-real-ip': '10.0.0.1' }
    assert.equal(await statusOf(gateway, forged), 403)
  })

  test('is found behind an IPv6 address that stands for an IPv4 one', async () => {
    assert.deepEqual(
      ['10.0.0.0/8', '::1/128', '10.0.0.0', '10.0.0.0/33', 'host/8', '10.0.0/8', ''].map(isRange),
      [true, true, false, false, false, false, false],
    )
    const covers = inRanges(['10.0.0.0/8', 'fd00::/8'])
    const addresses = ['10.1.2.3', '::ffff:10.1.2.3', 'fd00::1', '::ffff:11.0.0.1', 'fe80::1', '', 'x']
    assert.deepEqual(addresses.map(covers), [true, true, true, false, false, false, false])
  })
})

suite('a pull on two nodes', () => {
  const digest = `sha256:${'ab'.repeat(32)}`
  const layers = { [digest]: { total: 10, completed: 4 } }

  test('is one stream of lines, and a success when both have succeeded', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes, keys }))
    const response = await ask(gateway, '/api/pull', { model: 'm' })
    assert.deepEqual(
      ['content-type', 'x-llamero-job'].map((name) => response.headers.get(name)),
      ['application/x-ndjson', 'job-1'],
    )
    assert.match(response.headers.get('x-request-id') ?? '', /^[\w-]{36}$/)
    assert.deepEqual(gateway.jobs.get('job-1')?.spec.nodes, ['a', 'b'])
    gateway.jobs.report('job-1', { a: progress({ layers }), b: progress({ layers }) })
    gateway.jobs.report('job-1', {
      a: progress({ state: 'done', layers }),
      b: progress({ state: 'running' }),
    })
    gateway.jobs.report('job-1', { a: progress({ state: 'done', layers }), b: progress({ state: 'done' }) })
    const lines = await linesOf(response)
    assert.deepEqual(
      lines.map(({ status, total, completed }) => [status, ...(total ? [completed, total] : [])]),
      [
        ['pulling manifest'],
        ['pulling abababababab', 8, 20],
        ['pulling abababababab', 10, 20],
        ['pulling abababababab', 20, 20],
        ['verifying sha256 digest'],
        ['writing manifest'],
        ['success'],
      ],
    )
    assert.deepEqual(lines[1].llamero, {
      job: 'job-1',
      nodes: {
        a: { state: 'running', status: '', completed: 4, total: 10, error: null },
        b: { state: 'running', status: '', completed: 4, total: 10, error: null },
      },
    })
  })

  test('that fails on one ends in an error that names it', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes, keys }))
    gateway.jobs.outcome = {
      a: progress({ state: 'done' }),
      b: progress({ state: 'failed', error: 'pull model manifest: file does not exist' }),
    }
    const lines = await linesOf(await ask(gateway, '/api/pull', { model: 'm' }))
    assert.deepEqual(
      lines.map(({ status, error }) => status ?? error),
      [
        'pulling manifest',
        'verifying sha256 digest',
        'writing manifest',
        'pull failed on b: pull model manifest: file does not exist; succeeded on a',
      ],
    )
    const whole = await ask(gateway, '/api/pull', { model: 'm', stream: false })
    const { error, llamero } = (await whole.json()) as { error: string; llamero: { job: string } }
    assert.deepEqual([whole.status, error, llamero.job], [502, lines.at(-1).error, 'job-2'])
  })

  test('is joined by a second pull of the same model, by any caller and in any spelling (366)', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes, keys }))
    const first = await ask(gateway, '/api/pull', { model: 'm' })
    const second = await ask(
      gateway,
      '/api/pull',
      { name: 'library/M:latest' },
      { headers: bearer(tokens.both) },
    )
    assert.equal(second.headers.get('x-llamero-job'), 'job-1')
    gateway.jobs.outcome = { a: progress({ state: 'done' }), b: progress({ state: 'done' }) }
    gateway.jobs.report('job-1', gateway.jobs.outcome)
    for (const answer of [first, second]) assert.equal((await linesOf(answer)).at(-1).status, 'success')
    await ask(gateway, '/api/pull', { model: 'm', stream: false })
    assert.equal(gateway.jobs.list().length, 2, 'one that is over is not joined')
  })

  test('is not joined where something else was asked (366)', async () => {
    const config = { management: { insecure: true } }
    await using gateway = await startGateway(aSnapshot({ nodes, keys, config }))
    const idOf = async (path: string, body: object) => {
      const leaving = new AbortController()
      const { headers } = await ask(gateway, path, body, {
        headers: bearer(tokens.admin),
        signal: leaving.signal,
      })
      leaving.abort()
      return headers.get('x-llamero-job')
    }
    const submit = (action: 'delete') =>
      gateway.jobs.submit({
        action,
        model: 'm:latest',
        body: { model: 'm' },
        nodes: ['a'],
        spares: [],
        tenant: 'ops',
      })
    assert.equal(await idOf('/api/pull', { model: 'm', llamero: { nodes: ['a'] } }), 'job-1')
    assert.equal(await idOf('/api/pull', { model: 'm', llamero: { nodes: ['a'] } }), 'job-1')
    assert.equal(await idOf('/api/pull', { model: 'm' }), 'job-2', 'one more node')
    assert.equal(await idOf('/api/pull', { model: 'm', insecure: true }), 'job-3', 'another way')
    assert.equal(await idOf('/api/pull', { model: 'other' }), 'job-4', 'another model')
    await submit('delete')
    assert.equal(
      await idOf('/api/pull', { model: 'm', insecure: true }),
      'job-6',
      'after a delete that waits',
    )
  })

  test('goes on when its caller leaves', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes, keys }))
    const caller = new AbortController()
    await ask(gateway, '/api/pull', { model: 'm' }, { headers: bearer(tokens.admin), signal: caller.signal })
    assert.equal(gateway.jobs.followers('job-1'), 1)
    caller.abort()
    await eventually(() => gateway.jobs.followers('job-1') === 0, 'nobody follows')
    assert.equal(gateway.jobs.get('job-1')?.spec.cancelled, false)
    await eventually(() => gateway.lines.at(-1)?.fields['outcome'] === 'client_cancelled', 'it is logged')
  })

  test('writes a line every five seconds', async () => {
    const clock = new VirtualClock()
    await using gateway = await startGateway(aSnapshot({ nodes, keys }), { clock })
    const response = await ask(gateway, '/api/pull', { model: 'm' })
    for (const ms of [4999, 1, 5000]) await clock.advance(ms)
    gateway.jobs.report('job-1', { a: progress({ state: 'done' }) })
    const lines = await linesOf(response)
    assert.deepEqual(
      lines.map(({ status }) => status),
      [...Array(3).fill('pulling manifest'), 'verifying sha256 digest', 'writing manifest', 'success'],
    )
  })

  test('that a stop of the instance cuts off says so', async () => {
    await using gateway = await startGateway(aSnapshot({ nodes, keys }))
    const response = await ask(gateway, '/api/pull', { model: 'm' })
    gateway.pipeline.exchanges.abortAll(new ProxyError('shutting_down'))
    await assert.rejects(response.text())
    assert.equal(gateway.jobs.get('job-1')?.status, null)
  })
})

test('what has not begun is refused with the status of the nodes', async () => {
  await using gateway = await startGateway(aSnapshot({ nodes, keys }))
  const failed = progress({ state: 'failed', error: 'unknown type', code: 400 })
  gateway.jobs.outcome = { a: failed, b: failed }
  for (const stream of [true, false]) {
    const response = await ask(gateway, '/api/create', { model: 'n', from: 'm', stream })
    assert.equal(response.status, 400)
    assert.match(await response.text(), /create failed on a, b: unknown type/)
  }
})

test('refusals reach no job', async () => {
  await using gateway = await startGateway(aSnapshot({ nodes, keys }))
  for (const [path, body, status, text] of [
    ['/api/pull', { model: 'evil.example/x/y' }, 403, /management.registries/],
    ['/api/pull', { model: 'm', insecure: true }, 403, /management.insecure/],
    ['/api/push', { model: 'm' }, 403, /management.push/],
    ['/api/delete', { model: 'none' }, 404, /^\{"error":"model 'none' not found"\}$/],
    ['/api/copy', { source: 'none', destination: 'n' }, 404, /^\{"error":"model \\"none\\" not found"\}$/],
    ['/api/pull', { model: 'm', llamero: { node: ['a'] } }, 400, /did you mean \\"nodes\\"/],
    ['/api/pull', { model: 'm', username: 'u' }, 400, /is not passed on/],
  ] as const) {
    const response = await ask(gateway, path, body)
    const answer = await response.text()
    assert.equal(response.status, status, answer)
    assert.match(answer, text)
  }
  assert.deepEqual(gateway.jobs.list(), [])
})

suite('the ollama client changes the models of two nodes as those of one', () => {
  const models = [aModel({ name: 'base:1b', sizeMiB: 1 })]
  const registry = [aModel({ name: 'wanted:1b', sizeMiB: 2 })]
  let simulated: SimulatedNode[]
  let gateway: Gateway
  let ollama: Ollama
  const names = async () =>
    Promise.all(
      simulated.map(async ({ url }) =>
        (await new Ollama({ host: url }).list()).models.map(({ name }) => name).sort(),
      ),
    )
  const fleet = async (config: object = {}) => {
    const held = await names()
    const sketches = simulated.map(({ name, url }, index) => ({ name, url, models: held[index] ?? [] }))
    return aSnapshot({
      nodes: sketches,
      keys,
      config: { management: { copies: 'all', push: true, ...config } },
    })
  }
  before(async () => {
    simulated = await Promise.all(['a', 'b'].map((name) => SimulatedNode.start({ name, models, registry })))
    gateway = await startGateway(await fleet())
    gateway.jobs.works = true
    ollama = new Ollama({ host: gateway.url, headers: bearer(tokens.both) })
  })
  after(async () => {
    await gateway[Symbol.asyncDispose]()
    await Promise.all(simulated.map((node) => node.stop()))
  })

  test('pull, streamed and whole', async () => {
    const statuses: string[] = []
    for await (const { status } of await ollama.pull({ model: 'wanted:1b', stream: true }))
      statuses.push(status)
    assert.deepEqual([statuses[0], statuses.at(-1)], ['pulling manifest', 'success'])
    assert.deepEqual(await names(), Array(2).fill(['base:1b', 'wanted:1b']))
    assert.equal((await ollama.pull({ model: 'wanted:1b' })).status, 'success')
    await assert.rejects(
      ollama.pull({ model: 'none:1b' }),
      /failed on a, b: pull model manifest: file does not exist/,
    )
    gateway.current.swap(await fleet())
  })

  test('copy, create, push', async () => {
    assert.equal((await ollama.copy({ source: 'base:1b', destination: 'copied' })).status, 'success')
    const created = await ollama.create({ model: 'made', from: 'base:1b', system: 'be brief' })
    assert.equal(created.status, 'success')
    assert.equal((await ollama.push({ model: 'base:1b' })).status, 'success')
    assert.deepEqual(gateway.jobs.list()[0]?.spec.nodes, ['a'])
    assert.deepEqual(await names(), Array(2).fill(['base:1b', 'copied:latest', 'made:latest', 'wanted:1b']))
    gateway.current.swap(await fleet())
  })

  test('delete', async () => {
    for (const model of ['copied', 'made', 'wanted:1b']) {
      assert.equal((await ollama.delete({ model })).status, 'success')
    }
    assert.deepEqual(await names(), Array(2).fill(['base:1b']))
    const gone = await ask(gateway, '/api/delete', { model: 'made' })
    assert.equal(gone.status, 404)
    assert.match(await gone.text(), /delete failed on a, b: model 'made' not found/)
    gateway.current.swap(await fleet())
  })

  test('create from files, on the node that has them', async () => {
    const blob = Buffer.from(`GGUF${'x'.repeat(100)}`)
    const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`
    const missing = await ask(gateway, '/api/create', { model: 'filed', files: { 'm.gguf': digest } })
    assert.equal(missing.status, 400)
    assert((await missing.text()).includes(digest))
    await fetch(`${simulated[1]?.url}/api/blobs/${digest}`, { method: 'POST', body: blob })
    const created = await ask(gateway, '/api/create', {
      model: 'filed',
      files: { 'm.gguf': digest },
      stream: false,
    })
    assert.equal(created.status, 200, await created.text())
    assert.deepEqual(await names(), [['base:1b'], ['base:1b', 'filed:latest']])
  })
})
