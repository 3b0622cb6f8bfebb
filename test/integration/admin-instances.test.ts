import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { type Instance, startInstance } from '../support/instance.ts'
import { until } from '../support/processes.ts'

suite('instances in the admin API', () => {
  let instance: Instance
  before(async () => {
    instance = await startInstance({ nodes: 0 })
    // A second instance, as the store shows it.
    const other = {
      id: 'other',
      boot: 'x',
      version: '0',
      data: 'h:1',
      admin: '10.0.0.2:11400',
      started: '2026-01-01T00:00:00Z',
      role: 'standby',
      draining: true,
      revision: '1',
      question: { id: 'q', nodes: ['a'] },
    }
    const key = instance.app.keys.instance('other')
    const { id: lease } = await instance.app.store.grant(600_000)
    await instance.app.store.commit({
      when: [],
      apply: [{ type: 'put', key, value: JSON.stringify(other), lease }],
    })
    await until(async () => (await call('GET', '')).body.instances.length === 2, 'both are known', 5000)
  })
  after(() => instance[Symbol.asyncDispose]())

  const call = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(`${instance.adminUrl}/admin/v1/instances${path}`, {
      method,
      headers: { authorization: `Bearer ${instance.token}`, 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: JSON.parse(await response.text()) }
  }
  const isReady = async () => (await fetch(`${instance.adminUrl}/readyz`)).ok

  test('are listed with their load, and without fields that are only for other instances', async () => {
    const { instances } = (await call('GET', '')).body
    assert.deepEqual(
      instances.map(({ id, running, queued }: Record<string, unknown>) => [id, running, queued]),
      [
        ['other', 0, 0],
        ['test', 0, 0],
      ],
    )
    assert.deepEqual(
      ['boot', 'question'].filter((field) => field in instances[0]),
      [],
    )
  })

  test('an order to another instance is refused with the address it listens on', async () => {
    for (const [method, path] of [
      ['POST', '/other/step-down'],
      ['POST', '/other/drain'],
      ['DELETE', '/other/drain'],
    ] as const) {
      const { status, body } = await call(method, path)
      assert.equal(status, 409)
      assert.match(body.error.message, /--admin-url http:\/\/10\.0\.0\.2:11400/)
      assert.equal((await call(method, path.replace('other', 'nobody'))).status, 404)
    }
  })

  test('a step-down towards an instance that cannot lead is refused', async () => {
    assert.equal((await call('POST', '/test/step-down', { to: 'nobody' })).status, 404)
    assert.equal((await call('POST', '/test/step-down', { to: 'test' })).status, 409)
    assert.match((await call('POST', '/test/step-down', { to: 'other' })).body.error.message, /draining/)
    assert.equal((await call('POST', '/test/step-down', { too: 'other' })).status, 422)
    assert.equal((await fetch(`${instance.adminUrl}/leader`)).status, 200)
  })

  test('a leader steps down when it is asked to, and a standby refuses', async () => {
    assert.equal((await call('POST', '/test/step-down')).status, 200)
    assert.equal((await fetch(`${instance.adminUrl}/leader`)).status, 503)
    const again = await call('POST', '/test/step-down')
    assert.deepEqual(
      [again.status, again.body.error.message],
      [409, 'instance "test" is not the leader; send this to the leader: llamero instance list'],
    )
    await until(async () => (await fetch(`${instance.adminUrl}/leader`)).ok, 'it leads again', 10_000)
  })

  test('a drained instance is not ready, still serves, and can be put into service again', async () => {
    assert.deepEqual((await call('POST', '/test/drain')).body.draining, true)
    assert.equal(await isReady(), false)
    assert.equal((await fetch(`${instance.url}/api/tags`)).status, 200)
    const { instances } = (await call('GET', '')).body
    assert.equal(instances[1].draining, true)
    assert.equal((await call('DELETE', '/test/drain')).body.draining, false)
    assert.equal(await isReady(), true)
  })
})
