import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JobAnswer } from '../../lib/api/jobs.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { type Answer, drive, fakeAdmin, llamero, refusal, start } from '../support/cli.ts'

type Report = JobAnswer['nodes'][string]

function aJob(nodes: Record<string, Partial<Report>>, given: Partial<JobAnswer> = {}): JobAnswer {
  const none: Report = { state: 'running', status: '', completed: 0, total: 0, error: null }
  return {
    id: 'job-1',
    action: 'pull',
    model: 'qwen3:8b',
    state: 'running',
    created: '2026-01-12T23:00:00Z',
    ended: null,
    tenant: 'operator',
    nodes: Object.fromEntries(Object.entries(nodes).map(([name, report]) => [name, { ...none, ...report }])),
    ...given,
  }
}

const pulling = (completed: number): Partial<Report> => ({
  status: 'pulling e7b273f96360',
  completed,
  total: 5e9,
})
const done = { state: 'done', status: 'success', completed: 5e9, total: 5e9 } as const
const finished = aJob({ 'gpu-a': done, 'gpu-b': done }, { state: 'done', ended: '2026-01-12T23:00:41Z' })
const full = { state: 'failed', error: 'no space left on device' } as const
const halfDone = aJob(
  { 'gpu-a': done, 'gpu-b': full, 'gpu-c': full },
  { state: 'failed', ended: '2026-01-12T23:00:41Z' },
)

/** A job as it stands at each look, one after the other; the last one stays. */
function looks(...jobs: (JobAnswer | Answer)[]): Answer {
  let at = 0
  return (response, received) => {
    const next = jobs[Math.min(at++, jobs.length - 1)] ?? {}
    if (typeof next === 'function') return next(response, received)
    const { status = 200, body } = 'id' in next ? { body: next } : next
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body))
  }
}

const accepted = { status: 202, body: { apiVersion: 'llamero/v1', job: 'job-1' } }

/** Runs a command in virtual time until it ends. */
async function run(line: string, url: string, given: object = {}) {
  const clock = new VirtualClock(new Date('2026-01-13T00:00:00Z'))
  const { done, stdout, stderr } = start(line, { url, clock, ...given })
  return { code: await drive(clock, done), out: stdout.text, err: stderr.text, took: clock.now() }
}

const orders: readonly [line: string, action: string, body: object][] = [
  ['model pull qwen3:8b', 'pull', { model: 'qwen3:8b' }],
  ['pull qwen3:8b', 'pull', { model: 'qwen3:8b' }],
  ['pull qwen3:8b --nodes gpu-a,gpu-b', 'pull', { model: 'qwen3:8b', nodes: ['gpu-a', 'gpu-b'] }],
  [
    'model pull m --copies 2 --label zone=a --label gpu=a100',
    'pull',
    { model: 'm', copies: 2, labels: { zone: 'a', gpu: 'a100' } },
  ],
  ['model pull m --copies all', 'pull', { model: 'm', copies: 'all' }],
  ['model rm m --yes', 'delete', { model: 'm' }],
  ['rm m -y --nodes gpu-a', 'delete', { model: 'm', nodes: ['gpu-a'] }],
  ['model copy m mine', 'copy', { model: 'm', destination: 'mine' }],
  ['model cp m mine', 'copy', { model: 'm', destination: 'mine' }],
  ['model load m --copies all --num-ctx 8192', 'load', { model: 'm', copies: 'all', num_ctx: 8192 }],
  ['model unload m --nodes gpu-a', 'unload', { model: 'm', nodes: ['gpu-a'] }],
]
for (const [line, action, body] of orders) {
  test(`"llamero ${line} --detach" asks for it, prints the id and how to follow it`, async (t) => {
    const { url, received } = await fakeAdmin(t, { [`POST /models/${action}`]: accepted })
    const { code, out, err } = await llamero(`${line} --detach`, { url })
    assert.deepEqual([code, out], [0, 'job-1\n'])
    assert.match(err, /: \w+ goes on as a job\n {2}hint: llamero model jobs job-1 --watch\n$/)
    assert.deepEqual(
      received.map(({ body }) => body),
      [body],
    )
  })
}

test('a pull is followed to its end, with a line for each change', async (t) => {
  const both = (a: number, b: number) => aJob({ 'gpu-a': pulling(a), 'gpu-b': pulling(b) })
  const { url } = await fakeAdmin(t, {
    'POST /models/pull': accepted,
    'GET /jobs/job-1': looks(
      aJob({ 'gpu-a': { state: 'waiting' }, 'gpu-b': { state: 'waiting' } }, { state: 'waiting' }),
      both(1e9, 0),
      ...Array.from({ length: 10 }, (_, n) => both(1e9 + (n + 1) * 1e8, 0)),
      aJob({ 'gpu-a': done, 'gpu-b': pulling(4e9) }),
      finished,
    ),
  })
  const { code, out, err } = await run('model pull qwen3:8b', url)
  assert.deepEqual([code, out], [0, ''])
  assert.equal(
    err,
    [
      'gpu-a: waiting',
      'gpu-b: waiting',
      'gpu-a: pulling e7b273f96360 20% 1 GB/5 GB',
      'gpu-b: pulling e7b273f96360 0% 0 B/5 GB',
      'gpu-a: pulling e7b273f96360 40% 2 GB/5 GB 363 MB/s 9s',
      'gpu-a: done 100% 5 GB/5 GB',
      'gpu-b: pulling e7b273f96360 80% 4 GB/5 GB 666 MB/s 2s',
      'gpu-b: done 100% 5 GB/5 GB',
      'qwen3:8b: pulled to gpu-a, gpu-b in 41s',
      '',
    ].join('\n'),
  )
})

test('on a terminal each node has a bar, and the bars are drawn in the same place', async (t) => {
  const { url } = await fakeAdmin(t, {
    'POST /models/pull': accepted,
    'GET /jobs/job-1': looks(
      aJob({ 'gpu-a': pulling(1e9), 'gpu-b': { status: 'pulling manifest' } }),
      finished,
    ),
  })
  const { code, err } = await run('pull qwen3:8b', url, { tty: true })
  assert.equal(code, 0)
  const [first = '', second = ''] = err
    .replaceAll('\r\u001b[K', '<')
    .replaceAll('\u001b[J', '')
    .split('\u001b[2A')
  assert.match(
    first,
    /^<gpu-a {2}pulling e7b273f96360 +20% ▕█+ +▏ {3}1 GB\/ {2}5 GB\n<gpu-b {2}pulling manifest\n$/,
  )
  assert.match(second, /^<gpu-a {2}done +100% ▕█+▏.*\n<gpu-b {2}done .*\n</)
  assert.ok(second.endsWith('\n<qwen3:8b: pulled to gpu-a, gpu-b in 41s\n'), second)
})

test('text of a node cannot send control characters to the terminal', async (t) => {
  const evil = aJob({ 'gpu-a': { status: 'pulling\u001b[2J\u001b]0;x' } })
  const { url } = await fakeAdmin(t, {
    'POST /models/pull': accepted,
    'GET /jobs/job-1': looks(evil, finished),
  })
  for (const tty of [true, false]) {
    const { err } = await run('pull qwen3:8b', url, { tty })
    assert.ok(!err.includes('\u001b[2J') && !err.includes('\u001b]0'), err)
  }
})

test('a job that failed on some nodes names them, the reasons, and the command that retries them', async (t) => {
  const { url } = await fakeAdmin(t, { 'POST /models/pull': accepted, 'GET /jobs/job-1': looks(halfDone) })
  const { code, err } = await run('model pull qwen3:8b', url)
  assert.equal(code, 1)
  assert.ok(
    err.endsWith(
      [
        'error: qwen3:8b: pull failed on gpu-b, gpu-c: no space left on device; done on gpu-a',
        '  hint: llamero model pull qwen3:8b --nodes gpu-b,gpu-c',
        '',
      ].join('\n'),
    ),
    err,
  )
})

const ends: readonly [line: string, action: string, job: JobAnswer, code: number, said: RegExp][] = [
  [
    'model rm qwen3:8b -y',
    'delete',
    aJob({ a: { state: 'done' } }, { action: 'delete', state: 'done' }),
    0,
    /^qwen3:8b: removed from a$/m,
  ],
  [
    'model rm qwen3:8b -y',
    'delete',
    aJob({ a: full }, { action: 'delete', state: 'failed' }),
    1,
    /rm failed on a: no space left on device\n {2}hint: llamero model rm qwen3:8b --nodes a$/m,
  ],
  [
    'model copy qwen3:8b x',
    'copy',
    aJob({ a: { state: 'failed', error: null } }, { action: 'copy', state: 'failed' }),
    1,
    /copy failed on a: it did not say why\n {2}hint: llamero node show a$/m,
  ],
  [
    'model load qwen3:8b',
    'load',
    aJob({ a: { state: 'done' }, b: { state: 'cancelled' } }, { action: 'load', state: 'cancelled' }),
    1,
    /error: qwen3:8b: job job-1 was cancelled; cancelled on b; done on a\n {2}hint: llamero model jobs job-1$/m,
  ],
  [
    'model pull qwen3:8b',
    'pull',
    aJob({ a: full, b: { state: 'done' } }, { state: 'done' }),
    0,
    /^qwen3:8b: pulled to b$/m,
  ],
]
for (const [line, action, job, code, said] of ends) {
  test(`"llamero ${line}" ends with ${code} when the job is ${job.state}: ${said.source.slice(0, 50)}`, async (t) => {
    const { url } = await fakeAdmin(t, {
      [`POST /models/${action}`]: accepted,
      'GET /jobs/job-1': looks(job),
    })
    const ended = await run(line, url)
    assert.equal(ended.code, code)
    assert.match(ended.err, said)
  })
}

test('-o json prints the ended job as one document, also when it failed', async (t) => {
  for (const [job, code] of [
    [finished, 0],
    [halfDone, 1],
  ] as const) {
    const { url } = await fakeAdmin(t, {
      'POST /models/pull': accepted,
      'GET /jobs/job-1': looks(aJob({ 'gpu-a': pulling(1e9) }), job),
    })
    const ended = await run('pull qwen3:8b -o json', url)
    assert.equal(ended.code, code)
    assert.deepEqual(JSON.parse(ended.out), job)
  }
})

test('-o json --detach prints the answer', async (t) => {
  const { url } = await fakeAdmin(t, { 'POST /models/pull': accepted })
  const { out } = await llamero('pull qwen3:8b -o json --detach', { url })
  assert.deepEqual(JSON.parse(out), accepted.body)
})

test('Ctrl-C leaves the job alone, and says so', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'POST /models/pull': accepted,
    'GET /jobs/job-1': looks(aJob({ 'gpu-a': pulling(1e9) })),
  })
  const stop = new AbortController()
  const { done, stderr } = start('pull qwen3:8b', { url, signal: stop.signal })
  while (!stderr.text.includes('gpu-a')) await new Promise((resolve) => setImmediate(resolve))
  stop.abort()
  assert.equal(await done, 130)
  assert.ok(
    stderr.text.endsWith(
      [
        'job job-1 goes on; to follow it again: llamero model jobs job-1 --watch',
        '  hint: llamero model cancel job-1',
        '',
      ].join('\n'),
    ),
    stderr.text,
  )
  assert.ok(received.every(({ method }) => method !== 'DELETE'))
})

test('an instance that is briefly out of reach, or does not know the job yet, does not end the follow', async (t) => {
  const { url } = await fakeAdmin(t, {
    'POST /models/pull': accepted,
    'GET /jobs/job-1': looks(
      refusal(404, 'not_found', 'no job named "job-1"'),
      aJob({ 'gpu-a': pulling(1e9) }),
      refusal(503, 'store_unavailable', 'away'),
      (response) => response.destroy(),
      finished,
    ),
  })
  const { code, err } = await run('pull qwen3:8b', url)
  assert.equal(code, 0)
  assert.ok(!err.includes('error'), err)
})

test('an instance that stays out of reach ends the follow, with the command that follows again', async (t) => {
  const { url } = await fakeAdmin(t, {
    'POST /models/pull': accepted,
    'GET /jobs/job-1': looks(aJob({ 'gpu-a': pulling(1e9) }), refusal(503, 'store_unavailable', 'away')),
  })
  const { code, err, took } = await run('pull qwen3:8b', url)
  assert.equal(code, 7)
  assert.equal(took, 30_000)
  assert.match(err, /error: away\n {2}hint: llamero model jobs job-1 --watch\n$/)
})

const aModel = { name: 'qwen3:8b', size: 5.2e9, nodes: ['gpu-a', 'gpu-b'], loaded_on: ['gpu-b'] }

test('rm names the model and the nodes before it removes', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /models/qwen3%3A8b': { body: aModel },
    'POST /models/delete': accepted,
  })
  const questions: readonly [line: string, question: string][] = [
    [
      'model rm Qwen3:8b',
      'Remove model qwen3:8b (5.2 GB) from gpu-a, gpu-b? It is in memory on gpu-b. [y/N] ',
    ],
    [
      'rm qwen3:8b --nodes gpu-a',
      'Remove model qwen3:8b (5.2 GB) from gpu-a? It is in memory on gpu-b. [y/N] ',
    ],
    ['rm qwen3:8b --label zone=a', 'from those of gpu-a, gpu-b that have zone=a? '],
  ]
  for (const [line, question] of questions) {
    const { code, err } = await llamero(line, { url, typed: 'n\n' })
    assert.equal(code, 1)
    assert.ok(err.includes(question), err)
    assert.match(err, /error: nothing was changed/)
  }
  assert.ok(received.every(({ method }) => method === 'GET'))
  assert.equal((await llamero('rm qwen3:8b --detach', { url, typed: 'y\n' })).code, 0)
  assert.equal(received.at(-1)?.method, 'POST')
})

test('an unknown model is answered with a similar name', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /models': { body: { models: [{ name: 'llama3.2:3b' }, { name: 'qwen3:8b' }] } },
    'POST /models/load': refusal(404, 'model_not_found', "model 'qwen2:8b' not found"),
    'GET /models/qwen2%3A8b': refusal(404, 'model_not_found', "model 'qwen2:8b' not found"),
  })
  for (const line of ['model load qwen2:8b', 'model where qwen2:8b', 'model show qwen2:8b']) {
    const { code, err } = await llamero(line, { url })
    assert.equal(code, 3)
    assert.equal(err, `error: model 'qwen2:8b' not found\n  hint: did you mean "qwen3:8b"?\n`)
  }
})

const listed = [
  aJob({ 'gpu-a': done, 'gpu-b': pulling(1e9) }, { id: 'job-3' }),
  aJob({ 'gpu-a': { state: 'done' } }, { id: 'job-2', action: 'load', state: 'done' }),
]

test('model jobs lists running jobs, and with --all ended ones', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /jobs': { body: { apiVersion: 'llamero/v1', jobs: listed } } })
  const all = [
    'ID     ACTION  MODEL     STATE    DONE  NODES         AGE',
    'job-3  pull    qwen3:8b  running   1/2  gpu-a, gpu-b  60m',
    'job-2  load    qwen3:8b  done      1/1  gpu-a         60m',
    '',
  ]
  const { out } = await llamero('model jobs', { url })
  assert.equal(out.replaceAll(/ +/g, ' '), [...all.slice(0, 2), ''].join('\n').replaceAll(/ +/g, ' '))
  assert.equal((await llamero('model jobs --all', { url })).out, all.join('\n'))
  const document = JSON.parse((await llamero('model jobs -o json', { url })).out)
  assert.deepEqual(document, { apiVersion: 'llamero/v1', jobs: listed.slice(0, 1) })
})

test('an empty list of model jobs names the next command', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /jobs': { body: { jobs: [] } } })
  assert.equal(
    (await llamero('model jobs', { url })).err,
    'no job is running\n  hint: llamero model jobs --all\n',
  )
  assert.match((await llamero('model jobs --all', { url })).err, /no jobs yet/)
})

test('model jobs ID shows the details of one job, and --watch follows it', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /jobs/job-1': { body: halfDone },
    'GET /jobs': { body: { jobs: [halfDone] } },
  })
  const { code, out } = await llamero('model jobs job-1', { url })
  assert.equal(code, 0)
  assert.match(out, /^ended +59m ago \(2026-01-12T23:00:41Z\)\n\nNODE/m)
  assert.match(out, /^gpu-a +done +success +5 GB +5 GB +-$/m)
  assert.match(out, /^gpu-b +failed +- +- +- +no space left on device$/m)
  assert.equal((await run('model jobs job-1 --watch', url)).code, 1)
  const unknown = await llamero('model jobs job-7', { url })
  assert.deepEqual([unknown.code, unknown.err.split('hint: ')[1]], [3, 'did you mean "job-1"?\n'])
})

test('model cancel ends a running job, and refuses an ended one', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /jobs/job-1': { body: aJob({ 'gpu-a': pulling(1e9) }) },
    'GET /jobs/job-2': { body: { ...finished, id: 'job-2' } },
    'DELETE /jobs/job-1': { status: 202, body: { job: 'job-1' } },
  })
  assert.equal(
    (await llamero('model cancel job-1', { url })).err,
    'job-1: is being cancelled\n  hint: llamero model jobs job-1\n',
  )
  assert.equal(received.at(-1)?.method, 'DELETE')
  const over = await llamero('model cancel job-2', { url })
  assert.deepEqual([over.code, over.err], [0, 'job-2: has ended already: done\n'])
  assert.equal(received.at(-1)?.method, 'GET')
})
