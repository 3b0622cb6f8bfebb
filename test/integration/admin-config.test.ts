import assert from 'node:assert/strict'
import { after, before, beforeEach, suite, test } from 'node:test'
import { type Instance, startInstance } from '../support/instance.ts'
import { until } from '../support/processes.ts'

const first = '# ours\nqueue:\n  max_wait: 30s # short\n'

suite('the config in the admin API', () => {
  let instance: Instance
  before(async () => {
    instance = await startInstance({ nodes: 0 })
  })
  after(() => instance[Symbol.asyncDispose]())
  beforeEach(() => put(first))

  const key = () => instance.app.keys.config
  const storedText = async () => (await instance.app.store.get(key()))?.value ?? null
  /** What an operator does with etcdctl; resolves once the instance has seen it. */
  async function put(value: string) {
    const { revision } = await instance.app.store.commit({
      when: [],
      apply: [{ type: 'put', key: key(), value }],
    })
    await until(
      async () => (await call('GET', 'config')).body.modified === String(revision),
      'it is seen',
      5000,
    )
    return String(revision)
  }
  const call = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(`${instance.adminUrl}/admin/v1/${path}`, {
      method,
      headers: { authorization: `Bearer ${instance.token}`, 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: JSON.parse(await response.text()) }
  }

  test('is shown as it is in force, durations as they are written, beside its stored text', async () => {
    const { body } = await call('GET', 'config')
    assert.deepEqual(body.effective.queue, { max_length: 1000, max_wait: '30s', shares: {} })
    assert.equal(body.effective.timeouts.request, '1h')
    assert.deepEqual([body.text, body.ok, body.errors], [first, true, []])
  })

  test('a rejected text is shown with its faults beside the last valid version', async () => {
    await put('queue:\n  max_wiat: 5s\n')
    const { body } = await call('GET', 'config')
    assert.equal(body.effective.queue.max_wait, '30s')
    assert.deepEqual([body.ok, body.errors[0].line, body.errors[0].path], [false, 2, 'queue.max_wiat'])
  })

  test('lists unknown keys of the store', async () => {
    const slip = `${instance.app.keys.root}confg`
    await instance.app.store.commit({ when: [], apply: [{ type: 'put', key: slip, value: first }] })
    const unknown = async () => (await call('GET', 'config')).body.unknown_keys
    await until(async () => (await unknown()).length === 1, 'it is told', 5000)
    const [{ key, errors }] = await unknown()
    assert.equal(key, slip)
    assert.match(errors[0].hint, /did you mean "config"/)
    await instance.app.store.commit({ when: [], apply: [{ type: 'delete', key: slip }] })
    await until(async () => (await unknown()).length === 0, 'it is gone', 5000)
  })

  test('is replaced only by a writer that names the revision it has seen', async () => {
    const modified = await put(first)
    const text = 'queue: {max_wait: 45s}\n'
    assert.equal((await call('PUT', 'config', { text })).status, 400)
    assert.equal((await call('PUT', 'config', { text }, { 'if-none-match': '*' })).status, 409)
    const written = await call('PUT', 'config', { text }, { 'if-match': `"${modified}"` })
    assert.equal(written.status, 200)
    assert.equal(await storedText(), text)
    const late = await call('PUT', 'config', { text: first }, { 'if-match': modified })
    assert.deepEqual([late.status, late.body.error.code], [409, 'conflict'])
    const next = await call('PUT', 'config', { text: first }, { 'if-match': written.body.modified })
    assert.equal(next.status, 200)
  })

  test('refuses an invalid text and a body without a text', async () => {
    const seen = { 'if-match': await put(first) }
    const invalid = await call('PUT', 'config', { text: 'queue: {max_wiat: 5s}\n' }, seen)
    assert.equal(invalid.status, 422)
    assert.match(invalid.body.error.message, /line 1: queue\.max_wiat: .*did you mean "max_wait"/)
    assert.equal((await call('PUT', 'config', { txt: '' }, seen)).status, 422)
    assert.equal(await storedText(), first)
  })

  test('is patched by paths and keeps its comments; a dry run, or what may be meant as one, writes nothing', async () => {
    const patch = { queue: { max_wait: null, max_length: 7 }, headers: { node: false } }
    const dry = await call('PATCH', 'config?dry_run=true', patch)
    assert.equal(dry.body.before, first)
    assert.match(dry.body.text, /^# ours\nqueue:\n {2}max_length: 7\nheaders:\n {2}node: false\n$/)
    assert.equal(await storedText(), first)
    for (const parameter of [
      'dry_run=1',
      'dry_run=yes',
      'dry_run',
      'dry_run=true&dry_run=true',
      'dryrun=true',
    ]) {
      const refused = await call('PATCH', `config?${parameter}`, patch)
      assert.deepEqual([refused.status, refused.body.error.code], [422, 'invalid'], parameter)
      assert.equal(await storedText(), first, parameter)
    }
    const { status, body } = await call('PATCH', 'config?dry_run=false', patch)
    assert.deepEqual([status, body.text], [200, dry.body.text])
    assert.equal(await storedText(), body.text)
    await until(() => instance.app.snapshot.get().config.queue.max_length === 7, 'it is in force', 5000)
    assert.equal((await call('PATCH', 'config', { queue: { max_length: 'many' } })).status, 422)
  })

  test('a text without fields cannot be patched, only replaced', async () => {
    for (const text of ['just words', 'queue: [', 'queue: 5\n']) {
      const modified = await put(text)
      const patched = await call('PATCH', 'config', { queue: { max_length: 5 } })
      assert.equal(patched.status, 422)
      const anew = await call('PUT', 'config', { text: first }, { 'if-match': modified })
      assert.equal(anew.status, 200)
    }
  })

  test('a text of any kind of document is validated without being written', async () => {
    const verdict = async (body: object) => (await call('POST', 'config/validate', body)).body
    assert.deepEqual((await verdict({ text: first })).ok, true)
    assert.equal((await verdict({ folder: 'routes', text: 'model: a\n' })).ok, true)
    const wrong = await verdict({ folder: 'nodes', text: 'url: http://a:1\nslotz: 2\n' })
    assert.deepEqual(
      [wrong.ok, wrong.errors[0].line, wrong.errors[0].hint],
      [false, 2, 'did you mean "slots"?'],
    )
    assert.equal((await call('POST', 'config/validate', { folder: 'others', text: '' })).status, 422)
  })

  test('accept is refused while the store is not suspect', async () => {
    assert.equal((await call('POST', 'config/accept')).status, 409)
  })
})
