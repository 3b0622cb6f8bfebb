import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { JobAction, JobState, JobView, NodeProgress } from '../../../lib/fleet/job.ts'
import { JobProgress, type ProgressLine } from '../../../lib/gateway/jobs/job-progress.ts'
import { failureOf, nodeReports } from '../../../lib/gateway/jobs/job-report.ts'
import { progress } from '../../support/jobs.ts'

const digest = `sha256:${'ab'.repeat(32)}`
const layer = (completed: number, total = 100) => ({ layers: { [digest]: { total, completed } } })

function aJob(
  nodes: Record<string, NodeProgress> | null,
  state: JobState = 'running',
  action: JobAction = 'pull',
) {
  const names = Object.keys(nodes ?? { a: 1, b: 2 })
  const spec = {
    action,
    model: 'm:latest',
    body: {},
    nodes: names,
    spares: [],
    tenant: 't',
    created: '',
    cancelled: false,
  }
  const job: JobView = { id: 'j', spec, status: nodes && { fence: '1', state, ended: null, nodes } }
  return job
}

function told(steps: readonly (Record<string, NodeProgress> | null)[], action: JobAction = 'pull') {
  const merged = new JobProgress(action)
  return steps.map((nodes) => merged.next(aJob(nodes, 'running', action)).map(written))
}

function written({ status, total, completed }: ProgressLine): string {
  return total === undefined ? status : `${status} ${completed}/${total}`
}

suite('the progress of two nodes', () => {
  test('begins like that of one node, before any has begun', () => {
    assert.deepEqual(told([null, { a: progress({ state: 'waiting' }), b: progress({ state: 'waiting' }) }]), [
      ['pulling manifest'],
      [],
    ])
  })

  test('reports at once, and once, why a node waits or failed (366)', () => {
    const waits = progress({ error: 'trying again: connect ECONNREFUSED' })
    const failed = progress({ state: 'failed', error: 'no space left on device' })
    assert.deepEqual(
      told([
        { a: waits, b: progress() },
        { a: waits, b: failed },
        { a: progress(), b: failed },
      ]),
      [
        ['pulling manifest', 'a: trying again: connect ECONNREFUSED'],
        ['pull failed on b: no space left on device'],
        [],
      ],
    )
    assert.deepEqual(told([{ a: waits }, { a: waits }], 'create'), [
      ['a: trying again: connect ECONNREFUSED'],
      [],
    ])
  })

  test('is the sum of their bytes, without repetition', () => {
    assert.deepEqual(
      told([
        { a: progress(layer(10)), b: progress() },
        { a: progress(layer(10)), b: progress(layer(50)) },
        { a: progress(layer(10)), b: progress(layer(50)) },
        { a: progress(layer(900)), b: progress({ state: 'done', status: 'success' }) },
      ]),
      [
        ['pulling manifest', 'pulling abababababab 10/200'],
        ['pulling abababababab 60/200'],
        [],
        ['pulling abababababab 200/200'],
      ],
    )
  })

  test('reaches a last phase when both nodes have, including phases too short to be seen', () => {
    const verifying = progress({ status: 'verifying sha256 digest', ...layer(100) })
    const done = progress({ state: 'done', status: 'success', ...layer(100) })
    assert.deepEqual(
      told([
        { a: progress(layer(99)), b: verifying },
        { a: verifying, b: done },
        { a: done, b: done },
      ]),
      [
        ['pulling manifest', 'pulling abababababab 199/200'],
        ['pulling abababababab 200/200', 'verifying sha256 digest'],
        ['writing manifest'],
      ],
    )
  })

  test('goes on with the other, and its bytes, when one fails', () => {
    const failed = progress({ state: 'failed', ...layer(90) })
    assert.deepEqual(
      told([
        { a: progress(layer(90)), b: progress(layer(10)) },
        { a: failed, b: progress(layer(20)) },
      ]),
      [['pulling manifest', 'pulling abababababab 100/200'], ['pulling abababababab 20/100']],
    )
    assert.deepEqual(told([{ a: failed, b: failed }]), [['pulling manifest']])
  })

  test('of a create is the status of the first node at work', () => {
    assert.deepEqual(
      told(
        [
          { a: progress({ status: 'parsing GGUF' }), b: progress({ status: 'writing manifest' }) },
          { a: progress({ state: 'done', status: 'success' }), b: progress({ status: 'writing manifest' }) },
          { a: progress({ state: 'done' }), b: progress({ state: 'done' }) },
        ],
        'create',
      ),
      [['parsing GGUF'], ['writing manifest'], []],
    )
  })
})

suite('the end of a job', () => {
  const failed = (error: string, code: number | null = null) => progress({ state: 'failed', error, code })
  const done = progress({ state: 'done' })
  for (const [what, nodes, state, expected] of [
    ['is a success', { a: done, b: done }, 'done', null],
    [
      'is a success where a spare took over',
      { a: failed('no space left on device', 500), b: done },
      'done',
      null,
    ],
    [
      'names who failed, and who did not',
      { a: failed('reset'), b: done, c: failed('no such file', 500) },
      'failed',
      { reason: 'pull failed on a: reset; pull failed on c: no such file; succeeded on b', status: 500 },
    ],
    ["has the nodes' own status", { a: failed('x', 404), b: failed('y', 404) }, 'failed', { status: 404 }],
    [
      'has a status of ours where they differ',
      { a: failed('x', 404), b: failed('y', 400) },
      'failed',
      { status: 500 },
    ],
    ['is 502 when no node said anything', { a: failed('unreachable') }, 'failed', { status: 502 }],
    [
      'tells what was cancelled',
      { a: progress({ state: 'cancelled' }), b: done },
      'cancelled',
      { reason: 'pull was cancelled on a; succeeded on b', status: 409, isCancelled: true },
    ],
    ['is cancelled before anybody began', {}, 'cancelled', { reason: 'pull was cancelled', status: 409 }],
  ] as const) {
    test(what, () => {
      const failure = failureOf(aJob(nodes, state))
      assert.deepEqual(failure, expected && { ...failure, ...expected })
    })
  }
})

test('a report sums the layers of a node, and includes nodes that no leader has read yet', () => {
  const job = aJob({
    a: progress({ layers: { x: { total: 10, completed: 4 }, y: { total: 5, completed: 9 } } }),
  })
  assert.deepEqual(nodeReports(job), {
    a: { state: 'running', status: '', completed: 9, total: 15, error: null },
  })
  assert.deepEqual(Object.keys(nodeReports(aJob(null))), ['a', 'b'])
})
