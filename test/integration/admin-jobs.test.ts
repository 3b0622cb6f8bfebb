import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import type { JobList } from '../../lib/api/jobs.ts'
import { aSnapshot } from '../support/fleet.ts'
import { progress } from '../support/jobs.ts'
import { startModelAdmin } from '../support/model-admin.ts'

const nodes = [
  { name: 'a', models: ['m:latest'], loaded: ['m:latest'] },
  { name: 'b', models: ['m:latest'], labels: { zone: 'west' } },
  { name: 'c', models: [] },
]

suite('the admin API of model jobs', () => {
  let admin: Awaited<ReturnType<typeof startModelAdmin>>
  before(async () => {
    admin = await startModelAdmin(aSnapshot({ nodes }))
  })
  after(() => admin[Symbol.asyncDispose]())

  for (const [action, order, chosen, sent] of [
    ['pull', { model: 'new' }, ['c'], { model: 'new' }],
    ['pull', { model: 'new', nodes: ['a'] }, ['a'], { model: 'new' }],
    ['pull', { model: 'new', labels: { zone: 'west' } }, ['b'], { model: 'new' }],
    ['delete', { model: 'M' }, ['a', 'b'], { model: 'M' }],
    ['copy', { model: 'm', destination: 'n' }, ['a', 'b'], { source: 'm', destination: 'n' }],
    ['load', { model: 'm' }, ['a'], { model: 'm' }],
    [
      'load',
      { model: 'm', copies: 'all', num_ctx: 8192 },
      ['a', 'b'],
      { model: 'm', options: { num_ctx: 8192 } },
    ],
    ['unload', { model: 'm' }, ['a'], { model: 'm' }],
  ] as const) {
    test(`takes ${action} ${JSON.stringify(order)} as a job for ${chosen.join(' and ')}`, async () => {
      const { status, body } = await admin.ask('POST', `models/${action}`, order)
      assert.equal(status, 202)
      const spec = admin.jobs.get(body.job)?.spec
      assert.deepEqual(
        [spec?.action, spec?.nodes, spec?.body, spec?.tenant],
        [action, chosen, sent, 'operator'],
      )
    })
  }

  for (const [action, order, expected, reason] of [
    ['pull', {}, 422, /model/],
    ['pull', { model: 'evil.example/x/y' }, 403, /management.registries/],
    ['pull', { model: 'm', destination: 'n' }, 422, /destination: is not a known field/],
    ['pull', { model: 'm', nodes: ['z'] }, 422, /no node named "z"/],
    ['delete', { model: 'none' }, 404, /not found/],
    ['delete', { model: 'm', copies: 1 }, 422, /does not apply/],
    ['load', { model: 'm', num_ctx: 'x' }, 422, /num_ctx/],
    ['copy', { model: 'm' }, 422, /destination/],
  ] as const) {
    test(`refuses ${action} ${JSON.stringify(order)}`, async () => {
      const { status, body } = await admin.ask('POST', `models/${action}`, order)
      assert.equal(status, expected, body.error.message)
      assert.match(body.error.message, reason)
    })
  }

  test('shows jobs, the newest first, and cancels one', async () => {
    const { job: first } = (await admin.ask('POST', 'models/pull', { model: 'm' })).body
    const { job: id } = (await admin.ask('POST', 'models/pull', { model: 'seen' })).body
    admin.jobs.report(id, { c: progress({ status: 'pulling', layers: { x: { total: 9, completed: 3 } } }) })
    const { jobs }: JobList = (await admin.ask('GET', 'jobs')).body
    const [newest, second] = jobs
    assert.deepEqual([newest?.id, second?.id, second?.state], [id, first, 'waiting'])
    const { apiVersion, ...job } = (await admin.ask('GET', `jobs/${id}`)).body
    assert.deepEqual(job, newest)
    assert.deepEqual(
      [apiVersion, job],
      [
        'llamero/v1',
        {
          id,
          action: 'pull',
          model: 'seen:latest',
          state: 'running',
          created: '2026-01-01T00:00:00Z',
          ended: null,
          tenant: 'operator',
          nodes: { c: { state: 'running', status: 'pulling', completed: 3, total: 9, error: null } },
        },
      ],
    )
    assert.equal((await admin.ask('DELETE', `jobs/${id}`)).status, 202)
    assert.equal((await admin.ask('GET', `jobs/${id}`)).body.state, 'cancelled')
  })

  test('knows no other', async () => {
    for (const method of ['GET', 'DELETE']) {
      const { status, body } = await admin.ask(method, 'jobs/none')
      assert.deepEqual([status, body.error.message], [404, 'no job named "none"'])
    }
  })
})
