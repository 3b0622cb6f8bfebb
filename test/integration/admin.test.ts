import assert from 'node:assert/strict'
import { readFile, stat } from 'node:fs/promises'
import { request } from 'node:http'
import { after, before, suite, test } from 'node:test'
import { type Instance, startInstance } from '../support/instance.ts'
import { until } from '../support/processes.ts'
import { eventually } from '../support/wire.ts'

suite('the admin listener', () => {
  let instance: Instance
  before(async () => {
    instance = await startInstance({ nodes: 1 })
  })
  after(() => instance[Symbol.asyncDispose]())

  const get = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${instance.adminUrl}${path}`, { headers })
    return { status: response.status, text: await response.text(), headers: response.headers }
  }
  const change = async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ) => {
    const response = await fetch(`${instance.adminUrl}/admin/v1/${path}`, {
      method,
      headers: { authorization: `Bearer ${instance.token}`, 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, body: text === '' ? null : JSON.parse(text) }
  }

  test('answers that it is alive, ready and leading', async () => {
    assert.equal((await get('/livez')).status, 200)
    assert.equal((await get('/readyz')).status, 200)
    assert.equal((await get('/readyz?model=llama3.2:3b')).status, 200)
    assert.equal((await get('/readyz?model=unknown')).status, 503)
    assert.deepEqual([(await get('/leader')).status, (await get('/leader')).text], [200, 'leader\n'])
  })

  test('has metrics of requests, nodes and the process', async () => {
    await fetch(`${instance.url}/api/tags`)
    const { text } = await get('/metrics')
    assert.match(text, /llamero_requests_total{api="inventory",model="",code="200",outcome="ok"} [1-9]/)
    assert.match(text, /llamero_node_up{node="node-0"} 1/)
    assert.match(text, /llamero_queue_length{class="batch"} 0/)
    assert.match(text, /nodejs_eventloop_lag_seconds/)
    const { leader } = JSON.parse((await get('/admin/v1/status')).text)
    assert(text.includes(`\nllamero_cluster_fence ${leader.fence}\n`), 'the fence of the leader')
  })

  test('shows status, nodes, models and instances', async () => {
    const status = JSON.parse((await get('/admin/v1/status')).text)
    assert.deepEqual([status.store.ok, status.nodes.up, status.leader.id], [true, 1, 'test'])
    const { nodes } = JSON.parse((await get('/admin/v1/nodes')).text)
    assert.deepEqual([nodes[0].name, nodes[0].health, nodes[0].breaker], ['node-0', 'up', 'closed'])
    const { models } = JSON.parse((await get('/admin/v1/models')).text)
    assert.deepEqual(models[0].nodes, ['node-0'])
    const { instances } = JSON.parse((await get('/admin/v1/instances')).text)
    assert.deepEqual([instances.length, instances[0].role], [1, 'leader'])
  })

  test('changes nothing without the token', async () => {
    const response = await fetch(`${instance.adminUrl}/admin/v1/nodes/x`, {
      method: 'PUT',
      body: '{"url":"http://h:1"}',
    })
    assert.equal(response.status, 401)
    const wrong = await change('PUT', 'nodes/x', { url: 'http://h:1' }, { authorization: 'Bearer wrong' })
    assert.equal(wrong.status, 401)
  })

  test('writes, patches and deletes a node', async () => {
    const made = await change('PUT', 'nodes/other', { url: 'http://127.0.0.1:9', labels: { a: '1' } })
    assert.equal(made.status, 201)
    assert.equal(
      (await change('PUT', 'nodes/other', { url: 'http://127.0.0.1:9' }, { 'if-none-match': '*' })).status,
      409,
    )
    assert.equal(
      (await change('PATCH', 'nodes/other', { state: 'cordoned', labels: { b: '2' } })).status,
      200,
    )
    await eventually(
      () => instance.app.snapshot.get().nodes.get('other')?.spec.state === 'cordoned',
      'the cordon is in force',
    )
    assert.deepEqual(instance.app.snapshot.get().nodes.get('other')?.spec.labels, { a: '1', b: '2' })
    assert.equal((await change('DELETE', 'nodes/other')).status, 204)
    assert.equal((await change('DELETE', 'nodes/other')).status, 404)
  })

  test("a patch keeps the operator's comments", async () => {
    const key = instance.app.keys.node('commented')
    await instance.app.store.commit({
      when: [],
      apply: [{ type: 'put', key, value: 'url: http://127.0.0.1:9 # in the cellar\n' }],
    })
    assert.equal(
      (await change('PATCH', 'nodes/commented', { weight: 2, labels: { gone: null } })).status,
      200,
    )
    assert.match((await instance.app.store.get(key))?.value ?? '', /# in the cellar\nweight: 2/)
    await change('DELETE', 'nodes/commented')
  })

  test('tells nodes whose document is rejected, and those that are down, with the reasons', async () => {
    const { keys, store } = instance.app
    const put = async (documents: Record<string, string>) => {
      const apply = Object.entries(documents).map(([name, value]) => ({
        type: 'put' as const,
        key: keys.node(name),
        value,
      }))
      await store.commit({ when: [], apply })
    }
    const node = async (name: string) => JSON.parse((await get(`/admin/v1/nodes/${name}`)).text)
    const status = async () => JSON.parse((await get('/admin/v1/status')).text)
    await put({ dead: '{url: "http://127.0.0.1:9", weight: 2}', never: 'url: nonsense' })
    await until(async () => (await node('dead')).health === 'down', 'the dead one is down', 15_000)
    await put({ dead: '{url: "http://127.0.0.1:9", weight: heavy}' })
    await until(async () => (await node('dead')).rejected.length === 1, 'its change is rejected', 15_000)
    const { state, weight, rejected } = await node('dead')
    assert.deepEqual([state, weight, rejected[0].path], ['active', 2, 'weight'])
    const { nodes } = JSON.parse((await get('/admin/v1/nodes')).text)
    const never = nodes.find(({ name }: { name: string }) => name === 'never')
    assert.deepEqual([never.state, never.health, never.rejected[0].path], ['rejected', 'unknown', 'url'])
    assert.deepEqual(await node('never'), { apiVersion: 'llamero/v1', ...never })
    const told = (await status()).nodes
    assert.deepEqual([told.rejected, told.unwell, told.unwell_first[0].name], [2, 1, 'dead'])
    assert.match(told.unwell_first[0].reason, /ECONNREFUSED|refused/)
    for (const name of ['dead', 'never']) assert.equal((await change('DELETE', `nodes/${name}`)).status, 204)
    await until(async () => (await status()).nodes.rejected === 0, 'they are gone', 15_000)
    assert.equal((await get('/admin/v1/nodes/never')).status, 404)
  })

  test('bounds the rejected documents that status lists, and counts all', async () => {
    const { root } = instance.app.keys
    const bad = Array.from({ length: 60 }, (_, n) => `${root}routes/bad-${n}`)
    const apply = bad.map((key) => ({ type: 'put' as const, key, value: 'modle: x' }))
    await instance.app.store.commit({ when: [], apply })
    const config = async () => JSON.parse((await get('/admin/v1/status')).text).config
    await until(async () => (await config()).rejected_total === 60, 'all are judged', 15_000)
    assert.equal((await config()).rejected.length, 50)
    await instance.app.store.commit({ when: [], apply: bad.map((key) => ({ type: 'delete' as const, key })) })
    await until(async () => (await config()).rejected_total === 0, 'they are gone', 15_000)
  })

  test('refuses a wrong document, names the field, and keeps the stored one', async () => {
    const before = await instance.app.store.get(instance.app.keys.node('node-0'))
    for (const [body, reason] of [
      [{ slots: 'many' }, /slots/],
      [{ slotz: 2 }, /did you mean "slots"/],
      [{ url: 'ftp://x' }, /scheme/],
      [[], /JSON object/],
      ['{"a":', /JSON/],
    ] as const) {
      const { status, body: answer } = await change('PATCH', 'nodes/node-0', body)
      assert([400, 422].includes(status), `${status}`)
      assert.match(answer.error.message, reason)
    }
    assert.deepEqual(await instance.app.store.get(instance.app.keys.node('node-0')), before)
  })

  test('refuses a second node with the same URL, naming the first, and a name that is no name (156)', async () => {
    const { status, body } = await change('PUT', 'nodes/twin', { url: instance.nodes[0]?.url })
    assert.equal(status, 409)
    assert.match(body.error.message, /node-0/)
    assert.equal((await change('PUT', 'nodes/a%2fb', { url: 'http://h:1' })).status, 422)
  })

  test('refuses its own listeners as a node, and finds out about others that are llamero (349)', async () => {
    const { data, admin } = instance.app
    for (const { port } of [data, admin]) {
      const { status, body } = await change('PUT', 'nodes/self', { url: `http://localhost:${port}` })
      assert.deepEqual([status, /is llamero itself/.test(body.error.message)], [422, true])
    }
    const metadata = await change('PUT', 'nodes/self', { url: 'http://169.254.169.254' })
    assert.deepEqual([metadata.status, /metadata/.test(metadata.body.error.message)], [422, true])
    // As with etcdctl: nobody looks at the URL but the probe.
    const node = (name: string) => instance.app.keys.node(name)
    const put = (name: string, port: number) => {
      const value = `url: http://127.0.0.1:${port}`
      return { type: 'put' as const, key: node(name), value }
    }
    await instance.app.store.commit({ when: [], apply: [put('self', data.port), put('self2', admin.port)] })
    const reason = (name: string) => instance.app.snapshot.get().nodes.get(name)?.status?.reason ?? ''
    for (const name of ['self', 'self2']) {
      const isTold = () => reason(name).includes('llamero answers at this URL')
      await eventually(isTold, 'the probe tells what it found', 15_000)
      await change('DELETE', `nodes/${name}`)
    }
  })

  test('a second node at the same server is refused, however its URL is written, and the first may be changed (321)', async () => {
    await change('PUT', 'nodes/first', { url: 'http://127.0.0.1:9/ollama' })
    for (const url of ['http://localhost:9/ollama', 'http://[::1]:9/ollama/', 'http://127.0.0.1:9/ollama']) {
      const { status, body } = await change('PUT', 'nodes/second', { url })
      assert.deepEqual([status, body.error?.code], [409, 'conflict'], url)
      assert.match(body.error.message, /node "first" has the URL http:\/\/127\.0\.0\.1:9\/ollama already/)
    }
    await change('PUT', 'nodes/second', { url: 'http://127.0.0.1:8' })
    assert.equal((await change('PATCH', 'nodes/second', { url: 'http://localhost:9/ollama' })).status, 409)
    // What was written into the store by hand must not keep anybody from changing the first.
    const { store, keys } = instance.app
    await store.commit({
      when: [],
      apply: [{ type: 'put', key: keys.node('twin'), value: '{"url":"http://localhost:9/ollama"}' }],
    })
    assert.equal((await change('PATCH', 'nodes/first', { state: 'cordoned' })).status, 200)
    for (const name of ['first', 'second', 'twin']) await change('DELETE', `nodes/${name}`)
  })

  test("a node's secret headers are shown nowhere and stay with its address (349)", async () => {
    const headers = { authorization: 'Bearer of-the-node' }
    const answers = [
      await change('PUT', 'nodes/secret', { url: 'http://127.0.0.1:9', headers }),
      await change('PATCH', 'nodes/secret', { weight: 2 }),
    ]
    const moved = await change('PATCH', 'nodes/secret', { url: 'http://127.0.0.1:8' })
    assert.equal(moved.status, 422)
    assert.match(moved.body.error.message, /headers of this node \(authorization\)/)
    answers.push(await change('PATCH', 'nodes/secret', { url: 'http://127.0.0.1:8', headers }))
    for (const { status, body } of answers) assert.deepEqual([status < 300, 'headers' in body], [true, false])
    const shown = [...answers, moved].map(({ body }) => JSON.stringify(body))
    assert(![...shown, (await get('/admin/v1/nodes')).text].join().includes('of-the-node'))
    const stored = await instance.app.store.get(instance.app.keys.node('secret'))
    assert.match(stored?.value ?? '', /of-the-node/)
    await change('DELETE', 'nodes/secret')
  })

  test('makes a key, shows its token once, and stores a hash', async () => {
    const order = { id: 'bob', tenant: 'team', options: { cloud: 'pass' }, class: 'batch' }
    const made = await change('POST', 'keys', order)
    assert.equal(made.status, 201)
    assert.match(made.body.token, /^llm_[\w-]{43}$/)
    assert(!(await instance.app.store.get(instance.app.keys.apiKey('bob')))?.value.includes(made.body.token))
    await eventually(() => instance.app.snapshot.get().keys.size === 1, 'the key is in force')
    const listed = await get('/admin/v1/keys')
    const [key] = JSON.parse(listed.text).keys
    assert.deepEqual([key.options, key.class], [{ cloud: 'pass' }, 'batch'])
    assert(!listed.text.includes('hash') && !listed.text.includes(made.body.token))
    assert.equal((await change('POST', 'keys', { id: 'bob' })).status, 409)
    assert.equal((await change('DELETE', 'keys/bob')).status, 204)
  })

  test('a key of scope admin may do what the token may', async () => {
    const { body } = await change('POST', 'keys', { id: 'op', scopes: ['admin'] })
    await eventually(() => instance.app.snapshot.get().keys.size === 1, 'the key is in force')
    assert.equal(
      (await change('DELETE', 'keys/op', undefined, { authorization: `Bearer ${body.token}` })).status,
      204,
    )
  })

  /** `fetch` does not let a Host be set. */
  const statusAt = async (path: string, headers: Record<string, string>) => {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    request({ port: instance.app.admin.port, host: '127.0.0.1', path, headers }, (answer) => {
      answer.resume()
      resolve(answer.statusCode ?? 0)
    })
      .on('error', reject)
      .end()
    return promise
  }

  test('answers no web page of another origin', async () => {
    assert.equal((await get('/admin/v1/status', { origin: 'http://evil.example' })).status, 403)
  })

  test('refuses a rebound host name on every path, health and metrics too (341)', async () => {
    for (const path of ['/admin/v1/status', '/admin/v1/nothing', '/livez', '/readyz', '/leader', '/metrics'])
      for (const host of ['evil.example', 'evil.example:11400', '203.0.113.9', 'localhost.evil.example'])
        assert.equal(await statusAt(path, { host }), 403, `${path} ${host}`)
    for (const host of ['localhost:11400', '127.0.0.1', '10.1.2.3', 'gpu.local', '[::1]:11400'])
      assert.equal(await statusAt('/readyz', { host }), 200, host)
  })

  test('takes the admin token under any host name (341)', async () => {
    const authorization = `Bearer ${instance.token}`
    assert.equal(await statusAt('/admin/v1/status', { host: 'admin.example', authorization }), 200)
    assert.equal(
      await statusAt('/admin/v1/status', { host: 'admin.example', authorization: 'Bearer x' }),
      403,
    )
  })

  test('a read that came through a proxy needs the token (342)', async () => {
    for (const name of ['x-forwarded-for', 'x-forwarded-proto', 'forwarded', 'x-real-ip', 'via'])
      for (const value of ['127.0.0.1', '']) {
        assert.equal((await get('/admin/v1/nodes', { [name]: value })).status, 401, name)
        const authorization = `Bearer ${instance.token}`
        assert.equal((await get('/admin/v1/nodes', { [name]: value, authorization })).status, 200, name)
      }
  })

  test('auth.hosts and auth.anonymous are in force on it, and status warns of keys beside open loopback (341, 342)', async () => {
    const warnings = async () => {
      const { body } = await change('GET', 'status')
      return body.warnings as string[]
    }
    const configure = async (auth: object) => {
      const value = JSON.stringify({ auth })
      const { config } = instance.app.keys
      await instance.app.store.commit({ when: [], apply: [{ type: 'put', key: config, value }] })
      const inForce = () => JSON.stringify(instance.app.snapshot.get().config.auth)
      await eventually(
        () => Object.values(auth).every((part) => inForce().includes(JSON.stringify(part))),
        'it',
      )
    }
    assert.deepEqual(await warnings(), [])
    await change('POST', 'keys', { id: 'first' })
    await eventually(() => instance.app.snapshot.get().keys.size === 1, 'the key is in force')
    assert.match((await warnings()).join(), /API keys exist.*auth\.anonymous: none/)

    await configure({ anonymous: 'none', hosts: ['*.example.com'] })
    assert.deepEqual(await warnings(), [])
    assert.equal((await get('/admin/v1/nodes')).status, 401)
    assert.equal((await get('/readyz')).status, 200)
    assert.equal(await statusAt('/readyz', { host: 'ops.example.com:80' }), 200)
    assert.equal(await statusAt('/readyz', { host: 'example.com' }), 403)

    await configure({
      anonymous: 'none',
      addresses: [{ cidr: ['127.0.0.0/8'], tenant: 'default', scopes: ['inference'] }],
    })
    assert.match((await warnings()).join(), /auth\.addresses\[0\]/)
    await configure({ anonymous: 'loopback' })
    await change('DELETE', 'keys/first')
    await eventually(() => instance.app.snapshot.get().keys.size === 0, 'the key is gone')
  })

  test('unknown paths are 404', async () => {
    assert.equal((await get('/admin/v1/nothing')).status, 404)
    assert.equal((await get('/api/tags')).status, 404)
  })

  test('keeps its token in a file only its owner can read', async () => {
    assert.match(await readFile(instance.tokenFile, 'utf8'), /^[\w-]{43}\n$/)
    assert.equal((await stat(instance.tokenFile)).mode & 0o777, 0o600)
  })
})
