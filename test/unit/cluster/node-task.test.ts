import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type FinalResult, NodeTask } from '../../../lib/cluster/jobs/node-task.ts'
import type { JobEnding, JobLine } from '../../../lib/cluster/jobs/node-task-answer.ts'
import type { JobAction, NodeProgress } from '../../../lib/fleet/job.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

const begun: NodeProgress = { state: 'running', status: '', layers: {}, error: null, code: null }
const broken: JobEnding = { kind: 'broken', error: 'connection reset' }
const minute = 60_000

const layer = (completed: number): JobLine => ({
  status: 'pulling 0123',
  digest: 'sha256:0123',
  total: 100,
  completed,
  error: null,
})

const errorOf = (last: FinalResult | undefined) => (last?.kind === 'refused' ? last.error : '')

/** Work at a node that answers as `answer` says, which may speak lines before. */
function aWork(
  action: JobAction,
  answer: (nth: number, heard: (line: JobLine) => void) => JobEnding | Promise<JobEnding>,
  wasAsked = false,
) {
  const clock = new VirtualClock()
  const paths: string[] = []
  const ends: FinalResult[] = []
  const said: NodeProgress[] = []
  const work = new NodeTask({
    spec: {
      action,
      model: 'm:latest',
      body: { model: 'm' },
      nodes: ['n'],
      spares: [],
      tenant: 't',
      created: '2026-01-01T00:00:00Z',
      cancelled: false,
    },
    begun,
    wasAsked,
    keepAlive: () => ({}),
    ask: async (order, heard) => answer(paths.push(order.path), heard),
    clock,
    random: () => 0.5,
    changed: (progress) => said.push(progress),
    ended: (last) => ends.push(last),
  })
  work.start()
  return { clock, work, paths, ends, said }
}

test('a broken connection is tried again after pauses that grow to half a minute', async () => {
  const { clock, paths, said, work } = aWork('pull', () => broken)
  const at: number[] = []
  for (let s = 0; s < 150; s++) {
    const before = paths.length
    await clock.advance(500)
    if (paths.length > before) at.push(clock.now())
  }
  assert.deepEqual(at, [500, 1500, 3500, 7500, 15_500, 31_500, 61_500])
  assert.equal(said.at(-1)?.error, 'trying again: connection reset')
  work.stop()
})

test('a node is given up after ten minutes without progress, and not while there is some', async () => {
  const idle = aWork('pull', () => broken)
  await idle.clock.advance(9 * minute)
  assert.deepEqual(idle.ends, [])
  await idle.clock.advance(2 * minute)
  assert.match(errorOf(idle.ends[0]), /no progress for 10 minutes: connection reset/)

  const moving = aWork('pull', (nth, heard) => {
    heard(layer(nth))
    return broken
  })
  await moving.clock.advance(30 * minute)
  assert.deepEqual(moving.ends, [])
  moving.work.stop()
})

test('a download that the node throws away again and again is no progress', async () => {
  const { clock, ends } = aWork('pull', (_, heard) => {
    for (const completed of [0, 50, 100]) heard(layer(completed))
    return { kind: 'failed', error: 'digest mismatch, file must be downloaded again', code: null }
  })
  await clock.advance(11 * minute)
  assert.equal(ends[0]?.kind, 'refused')
})

test('what a node that was restarted fetches for the second time is progress', async () => {
  const { clock, ends, work } = aWork('pull', (nth, heard) => {
    for (let completed = 0; completed <= 90 - (nth % 50); completed += 10) heard(layer(completed))
    return broken
  })
  await clock.advance(12 * minute)
  assert.deepEqual(ends, [])
  work.stop()
})

test('a definite refusal is final, and so is any failure of what is no transfer', async () => {
  const refusals: [JobAction, JobEnding][] = [
    ['pull', { kind: 'refused', error: 'invalid model name', code: 400, isDiskFull: false }],
    ['pull', { kind: 'failed', error: 'pull model manifest: file does not exist', code: null }],
    ['create', { kind: 'failed', error: 'open /blobs/sha256-1: something', code: 500 }],
    ['copy', { kind: 'refused', error: 'model "x" not found', code: 404, isDiskFull: false }],
  ]
  for (const [action, ending] of refusals) {
    const { clock, paths, ends } = aWork(action, () => ending)
    await clock.advance(minute)
    assert.equal(paths.length, 1)
    assert.equal(ends[0]?.kind, 'refused', action)
  }
})

test('a transfer that failed before its first layer is not tried again: there is nothing to resume (366)', async () => {
  const away = 'pull model manifest: Get "https://r/v2/library/m/manifests/latest": dial tcp: no such host'
  for (const [action, error] of [
    ['pull', away],
    ['pull', 'pull model manifest: 503: service unavailable'],
    ['push', 'Head "https://r/v2/library/m/blobs/": dial tcp: connect: connection refused'],
  ] as const) {
    const { clock, paths, ends } = aWork(action, (_, heard) => {
      heard({ status: 'pulling manifest', digest: null, total: 0, completed: 0, error: null })
      return { kind: 'failed', error, code: 500 }
    })
    await clock.advance(1)
    assert.equal(paths.length, 1)
    assert.equal(errorOf(ends[0]), error)
  }
})

test('a transfer that has layers is resumed when the registry goes away for a while (366)', async () => {
  const { clock, paths, ends } = aWork('pull', (nth, heard) => {
    if (nth === 1) heard(layer(10))
    if (nth === 4) return { kind: 'done' }
    return { kind: 'failed', error: 'pull model manifest: dial tcp: i/o timeout', code: 500 }
  })
  await clock.advance(minute)
  assert.equal(paths.length, 4)
  assert.equal(ends[0]?.kind, 'done')
})

test('what is already gone when a delete is asked for again has been deleted', async () => {
  const missing: JobEnding = { kind: 'refused', error: 'not found', code: 404, isDiskFull: false }
  const again = aWork('delete', (nth) => (nth === 1 ? broken : missing))
  const resumed = aWork('delete', () => missing, true)
  const first = aWork('delete', () => missing)
  for (const { clock } of [again, resumed, first]) await clock.advance(minute)
  assert.deepEqual(
    [again, resumed, first].map(({ ends }) => ends[0]?.kind),
    ['done', 'done', 'refused'],
  )
})

test('a model that cannot generate is loaded by an embedding, and otherwise the first refusal counts', async () => {
  const bad = (error: string): JobEnding => ({ kind: 'refused', error, code: 400, isDiskFull: false })
  const embeds = aWork('load', (nth) => (nth === 1 ? bad('does not support generate') : { kind: 'done' }))
  const neither = aWork('load', (nth) => bad(`refusal ${nth}`))
  for (const { clock } of [embeds, neither]) await clock.advance(1)
  assert.deepEqual(embeds.paths, ['/api/generate', '/api/embed'])
  assert.equal(embeds.ends[0]?.kind, 'done')
  assert.equal(errorOf(neither.ends[0]), 'refusal 1')
})

test('after a stop no request is sent and no callback is called', async () => {
  const { promise, resolve } = Promise.withResolvers<JobEnding>()
  const { clock, work, paths, ends, said } = aWork('pull', () => promise)
  work.stop()
  resolve({ kind: 'done' })
  await clock.advance(minute)
  assert.deepEqual([paths.length, ends.length, said.length], [1, 0, 0])
})
