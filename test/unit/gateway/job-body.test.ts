import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { configSchema } from '../../../lib/fleet/config.ts'
import type { ManagedAction } from '../../../lib/gateway/http/find-endpoint.ts'
import { readJobBody } from '../../../lib/gateway/jobs/job-body.ts'
import { permit } from '../../../lib/gateway/jobs/job-permissions.ts'

const read = (action: ManagedAction, body: unknown) =>
  readJobBody(
    action,
    Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
    new AbortController().signal,
  )
const digest = `sha256:${'0'.repeat(64)}`

suite('the body of a management request', () => {
  for (const [what, action, body, sent, streams] of [
    [
      "is Ollama's own client's",
      'pull',
      { model: 'm', insecure: false, username: '', password: '', name: '' },
      { model: 'm', insecure: false },
      true,
    ],
    ['may say name', 'pull', { name: 'm', stream: false }, { model: 'm' }, false],
    [
      'keeps the case of a name, not its scheme',
      'pull',
      { model: ' http://HF.co/A/M ' },
      { model: 'HF.co/A/M' },
      true,
    ],
    ['loses what no node shall get', 'delete', { model: 'm', other: 1, llamero: {} }, { model: 'm' }, false],
    [
      'of a copy names two',
      'copy',
      { source: 'm', destination: 'n', stream: true },
      { source: 'm', destination: 'n' },
      false,
    ],
    [
      'of a create is passed on',
      'create',
      { model: 'n', from: 'm', system: 'x', license: ['a'], parameters: { seed: 1 }, info: null },
      { model: 'n', from: 'm', system: 'x', license: ['a'], parameters: { seed: 1 } },
      true,
    ],
  ] as const) {
    test(what, async () => {
      const request = await read(action, body)
      assert.deepEqual([request.job.body, request.streams], [sent, streams])
    })
  }

  for (const [what, action, body, fault] of [
    ['without a model', 'pull', {}, /model is required/],
    ['with a bad name', 'pull', { model: 'a b' }, /invalid model name "a b"/],
    ['with a bad source', 'copy', { source: '../x', destination: 'n' }, /source "..\/x" is invalid/],
    ['without a destination', 'copy', { source: 'm' }, /destination "" is invalid/],
    ['with a name of the wrong type', 'delete', { name: 7 }, /name: /],
    ['with a model in another case', 'pull', { Model: 'm' }, /"Model" must be written "model"/],
    ['with a name in another case', 'pull', { model: 'm', NAME: 'n' }, /"NAME" must be written "name"/],
    ['with an escaped key', 'pull', '{"model":"m","in\\u017fecure":true}', /must be written "insecure"/],
    ['with a field twice', 'copy', '{"source":"m","destination":"a","destination":"b"}', /occurs twice/],
    ['with our own field twice', 'pull', '{"model":"m","llamero":{},"llamero":{}}', /occurs twice/],
    ['with credentials', 'pull', { model: 'm', password: 'p' }, /password: is not passed on/],
    [
      'with a remote host',
      'create',
      { model: 'n', from: 'm', remote_host: 'http://h' },
      /remote_host: is not/,
    ],
    ['with nothing to make it from', 'create', { model: 'n' }, /neither 'from' or 'files'/],
    ['with a bad digest', 'create', { model: 'n', files: { a: '../x' } }, /files.a: invalid digest format/],
    ['with an unknown wish', 'pull', { model: 'm', llamero: { copie: 2 } }, /did you mean "copies"/],
    [
      'with a bad number of copies',
      'pull',
      { model: 'm', llamero: { copies: 0 } },
      /llamero.copies: must be/,
    ],
    ['with copies to delete', 'delete', { model: 'm', llamero: { copies: 2 } }, /does not apply to delete/],
    [
      'with two kinds of wishes',
      'pull',
      { model: 'm', llamero: { copies: 2, nodes: ['a'] } },
      /cannot be given together with "nodes"/,
    ],
    ['that is no object', 'pull', '[]', /must be a JSON object/],
    [
      'of more values than a job has (345)',
      'create',
      { model: 'm', from: 'n', messages: Array(10_001).fill(1) },
      /more than 10000 fields/,
    ],
  ] as const) {
    test(`is refused ${what}`, async () => {
      await assert.rejects(read(action, body), fault)
    })
  }

  test('may repeat known keys at a deeper level', async () => {
    const { job: ask } = await read(
      'create',
      '{"model":"n","from":"m","messages":[{"MODEL":1},{"model":"}{","from":2}]}',
    )
    assert.equal(ask.made?.canonical, 'n:latest')
  })

  test('lists the blobs that a node must have: files only without a base model', async () => {
    const other = digest.replace('0', '1')
    const files = { files: { 'm.gguf': digest }, adapters: { 'a.gguf': other } }
    assert.deepEqual((await read('create', { model: 'n', ...files })).job.digests, [digest, other])
    assert.deepEqual((await read('create', { model: 'n', from: 'm', ...files })).job.digests, [other])
  })
})

suite('the policy', () => {
  const caller = { tenant: 't', models: ['m*', '*/*', 'new'], mayManage: true }
  const judged = async (action: ManagedAction, body: object, management: object = {}) =>
    permit((await read(action, body)).job, caller, configSchema.parse({ management }))

  test('permits models of configured registries, and names the setting', async () => {
    await judged('pull', { model: 'm' })
    await judged('pull', { model: 'registry.ollama.ai/library/m' })
    await judged('pull', { model: 'HF.co/a/m' }, { registries: ['hf.co'] })
    for (const model of ['hf.co/a/m', '10.0.0.1:8443/x/y', 'http://evil.example/x/y'])
      await assert.rejects(judged('pull', { model }), { status: 403, message: /management.registries/ })
    await assert.rejects(judged('pull', { model: 'm' }, { registries: [] }), /registry.ollama.ai/)
    await assert.rejects(judged('push', { model: 'hf.co/a/m' }, { push: true }), /management.registries/)
  })

  test('permits neither push nor insecure unless configured', async () => {
    await assert.rejects(judged('push', { model: 'm' }), { status: 403, message: /management.push/ })
    await judged('push', { model: 'm' }, { push: true })
    await assert.rejects(judged('pull', { model: 'm', insecure: true }), {
      status: 403,
      message: /management.insecure/,
    })
    await judged('pull', { model: 'm', insecure: true }, { insecure: true })
  })

  test('limits a key to its models, and hides the others', async () => {
    await assert.rejects(judged('delete', { model: 'secret' }), /model 'secret' not found/)
    await assert.rejects(judged('copy', { source: 'secret', destination: 'm2' }), /model "secret" not found/)
    await assert.rejects(judged('copy', { source: 'm', destination: 'secret' }), /key does not cover/)
    await assert.rejects(judged('create', { model: 'other', from: 'm' }), /key does not cover/)
  })
})
