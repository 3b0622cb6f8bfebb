import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  nodesToBegin,
  type OpenJob,
  planForgetting,
  planParts,
  stateOf,
  textOf,
  withSpare,
} from '../../../lib/cluster/jobs/job-plan.ts'
import {
  endingOfLine,
  endingOfStatus,
  progressAfter,
  readLine,
} from '../../../lib/cluster/jobs/node-task-answer.ts'
import { modelsOf, ordersOf, silenceMs } from '../../../lib/cluster/jobs/node-task-request.ts'
import type { JobSpec, JobState, NodeProgress } from '../../../lib/fleet/job.ts'

const inState = (state: JobState, more: Partial<NodeProgress> = {}): NodeProgress => ({
  state,
  status: '',
  layers: {},
  error: null,
  code: null,
  ...more,
})

const aSpec = (spec: Partial<JobSpec> = {}): JobSpec => ({
  action: 'pull',
  model: 'm:latest',
  body: {},
  nodes: ['x'],
  spares: [],
  tenant: 't',
  created: '2026-01-01T00:00:00Z',
  cancelled: false,
  ...spec,
})

/** A job by the states of its nodes. */
function aJob(id: string, nodes: Record<string, JobState>, spec: Partial<JobSpec> = {}): OpenJob {
  const progress = Object.entries(nodes).map(([name, state]) => [name, inState(state)])
  return { id, spec: aSpec({ model: `${id}:latest`, ...spec }), nodes: Object.fromEntries(progress) }
}

const begun = (jobs: readonly OpenJob[]) => planParts(jobs).map(({ id, node }) => `${id} on ${node}`)

test('a job is done only when each place is, also the one that a spare has taken', () => {
  const of = (...states: JobState[]) =>
    stateOf(Object.fromEntries(states.map((s, n) => [`${n}`, inState(s)])))
  assert.equal(of('waiting', 'waiting'), 'waiting')
  assert.equal(of('done', 'waiting'), 'running')
  assert.equal(of('failed', 'running'), 'running')
  assert.equal(of('done', 'cancelled'), 'cancelled')
  assert.equal(of('done', 'cancelled', 'failed'), 'failed')
  assert.equal(of('done', 'done'), 'done')
  const full = inState('failed', { replacedBy: 'y' })
  assert.equal(stateOf({ x: full, y: inState('done') }), 'done')
  assert.equal(stateOf({ x: full, y: inState('failed') }), 'failed')
})

test('a new leader keeps what ended and begins the rest again, with the layers known', () => {
  const layers = { 'sha256:1': { total: 10, completed: 5 } }
  const nodes = nodesToBegin(aSpec({ nodes: ['x', 'y', 'z'] }), {
    fence: '1',
    state: 'running',
    ended: null,
    nodes: { x: inState('done'), y: inState('running', { layers }), s: inState('failed') },
  })
  assert.deepEqual(
    Object.entries(nodes).map(([name, { state }]) => `${name} ${state}`),
    ['x done', 'y waiting', 'z waiting', 's failed'],
  )
  assert.deepEqual(nodes['y']?.layers, layers)
})

test('four jobs move bytes at once; what moves none begins beside them', () => {
  const jobs = ['a', 'b', 'c', 'd', 'e'].map((id) => aJob(id, { x: 'waiting', y: 'waiting' }))
  assert.equal(begun(jobs).length, 8)
  assert.ok(!begun(jobs).some((part) => part.startsWith('e')))
  const later = [...jobs, aJob('f', { x: 'waiting' }, { action: 'delete' })]
  assert.ok(begun(later).includes('f on x'))
  const running = [...jobs.slice(0, 4), aJob('e', { x: 'running', y: 'waiting' })]
  assert.deepEqual(
    begun(running).filter((part) => /^[de]/.test(part)),
    ['e on y'],
  )
})

test('on one node and model jobs take turns, and none overtakes one that waits', () => {
  const first = aJob('a', { x: 'running', y: 'waiting' }, { model: 'm:latest' })
  const second = aJob(
    'b',
    { x: 'waiting', y: 'waiting', z: 'waiting' },
    { model: 'm:latest', action: 'delete' },
  )
  assert.deepEqual(begun([first, second]), ['a on y', 'b on z'])
  const copy = aJob('c', { z: 'waiting' }, { action: 'copy', body: { destination: 'M' }, model: 'o:latest' })
  assert.deepEqual(begun([second, copy]), ['b on x', 'b on y', 'b on z'])
  const queued = ['p', 'q', 'r', 's', 't'].map((id) => aJob(id, { x: 'waiting' }))
  const after = aJob('u', { x: 'waiting' }, { action: 'delete', model: 't:latest' })
  assert.ok(!begun([...queued, after]).includes('u on x'), 'it follows a pull that has to wait')
})

test('the next spare that may serve takes the place of a full node', () => {
  const job = { ...aJob('a', { x: 'failed' }), spec: aSpec({ spares: ['x', 'gone', 's', 't'] }) }
  const nodes = withSpare(job, 'x', (name) => name !== 'gone')
  assert.equal(nodes['x']?.replacedBy, 's')
  assert.equal(nodes['s']?.state, 'waiting')
  assert.equal(
    withSpare(job, 'x', () => false),
    job.nodes,
  )
})

test('jobs are kept for an hour after their end, and a hundred of them', () => {
  const now = Date.parse('2026-01-02T00:00:00Z')
  const hour = 3_600_000
  assert.deepEqual(
    planForgetting(
      new Map([
        ['old', now - hour],
        ['new', now - hour + 1],
      ]),
      now,
    ),
    ['old'],
  )
  const many = new Map(Array.from({ length: 102 }, (_, n) => [`${n}`, now - n]))
  assert.deepEqual(planForgetting(many, now), ['100', '101'])
})

test('a state too large for the store is written without its layers', () => {
  const layers = Object.fromEntries(
    Array.from({ length: 64 }, (_, n) => [
      `sha256:${String(n).padStart(64, '0')}`,
      { total: 1e9, completed: 1 },
    ]),
  )
  const nodes = Object.fromEntries(
    Array.from({ length: 100 }, (_, n) => [`n${n}`, inState('running', { layers })]),
  )
  const text = textOf({ fence: '1', state: 'running', ended: null, nodes })
  assert.ok(text.length < 64 * 1024)
  assert.equal(Object.keys(JSON.parse(text).nodes).length, 100)
})

test('a line is read as hostile input, and bytes may go down again', () => {
  for (const text of ['', 'null', '[]', '7', '{', '"x"']) assert.equal(readLine(text), null, text)
  const line = readLine('{"status":7,"digest":"d","total":-1,"completed":"x"}')
  assert.deepEqual(line, { status: null, digest: 'd', total: 0, completed: 0, error: null })
  const say = (progress: NodeProgress, completed: number) => {
    const told = readLine(JSON.stringify({ status: 'pulling', digest: 'd', total: 9, completed }))
    return told ? progressAfter(progress, told) : progress
  }
  assert.deepEqual(say(say(inState('running'), 5), 3).layers, { d: { total: 9, completed: 3 } })
  let progress = inState('running')
  for (let n = 0; n < 200; n++)
    progress = progressAfter(progress, { ...(line as object), digest: `${n}` } as never)
  assert.equal(Object.keys(progress.layers).length, 64)
})

test('errors are classified by status and by the message of Ollama, unwrapped', () => {
  const wrapped = JSON.stringify({ error: JSON.stringify({ error: { code: 400, message: 'too long' } }) })
  assert.deepEqual(endingOfStatus(400, wrapped), {
    kind: 'refused',
    error: 'too long',
    code: 400,
    isDiskFull: false,
  })
  assert.equal(endingOfStatus(503, '{"error":"server busy"}').kind, 'broken')
  assert.deepEqual(endingOfStatus(500, '<html>'), {
    kind: 'failed',
    error:
      "a proxy in front of it, or another server, answered 500: check the node's URL, its headers and that proxy",
    code: 502,
  })
  assert.equal(readLine(wrapped)?.error, 'too long')
  assert.equal(readLine('{"error":{}}')?.error, 'an error without a message')
  const full = endingOfLine('write /blobs/x-partial: no space left on device')
  assert.ok(full.kind === 'refused' && full.isDiskFull)
})

test('each action is one request, and what is silent for long is known', () => {
  const [pull] = ordersOf(aSpec({ body: { model: 'm', stream: false } }), {})
  assert.deepEqual(pull, {
    method: 'POST',
    path: '/api/pull',
    body: { model: 'm', stream: true },
    isStream: true,
  })
  assert.equal(ordersOf(aSpec({ action: 'delete' }), {})[0].method, 'DELETE')
  assert.deepEqual(
    ordersOf(aSpec({ action: 'unload', body: { model: 'm' } }), { keep_alive: '1h' })[1]?.body,
    {
      model: 'm',
      keep_alive: 0,
      input: '',
    },
  )
  assert.deepEqual(modelsOf(aSpec({ body: { from: 'Base' } })), ['m:latest', 'base:latest'])
  assert.equal(silenceMs('pull', 'pulling 0123'), 60_000)
  assert.equal(silenceMs('pull', 'verifying sha256 digest'), 600_000)
})

test('what is loaded by order stays as long as what the scheduler loads, but what is in memory is left as it is', () => {
  const keepAlive = (stay: object, body = {}) =>
    ordersOf(aSpec({ action: 'load', body: { model: 'm', ...body } }), stay).map(
      (order) => order?.body['keep_alive'],
    )
  assert.deepEqual(keepAlive({ keep_alive: '1h' }), ['1h', '1h'])
  assert.deepEqual(keepAlive({ keep_alive: '1h' }, { keep_alive: -1 }), [-1, -1], 'as the caller says')
  assert.deepEqual(keepAlive({}), [undefined, undefined])
})
