import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { parse } from 'yaml'
import type { DecisionAnswer } from '../../lib/api/decisions.ts'
import type { QueueAnswer, WaitingAnswer, WaitingDetail } from '../../lib/api/queue.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { aCandidate, fakeAdmin, llamero, refusal, start } from '../support/cli.ts'

const candidates = [
  aCandidate({ node: 'gpu-a', state: 'full', start_seconds: 1.2, prefill_seconds: 0.3, cost_seconds: 1.9 }),
  aCandidate({ node: 'gpu-b', state: 'absent', start_seconds: 9, eviction_seconds: 2.5, cost_seconds: 12 }),
]

function aWaiting(given: Partial<WaitingAnswer> = {}): WaitingAnswer {
  return {
    id: 'r1',
    model: 'qwen3:8b',
    variant: '',
    tenant: 'web',
    class: 'default',
    waited_seconds: 2.14,
    node: 'gpu-a',
    waits_for: 'slot',
    starts_in_seconds: 0.4,
    places: 2,
    candidates,
    excluded_total: 0,
    excluded_nodes: [],
    ...given,
  }
}

const queue: QueueAnswer = {
  instance: 'a',
  total: 3,
  by_class: { default: 2, batch: 1 },
  by_tenant: { web: 2, ops: 1 },
  waiting: [
    aWaiting(),
    aWaiting({
      id: 'r2',
      variant: '{"num_ctx":8192}',
      class: 'batch',
      node: null,
      waits_for: null,
      starts_in_seconds: null,
      places: null,
      candidates: null,
    }),
  ],
}
const empty: QueueAnswer = { ...queue, total: 0, by_class: {}, by_tenant: {}, waiting: [] }

test('queue list shows each waiting request with its reason, and counts them by class and tenant', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'GET /queue?limit=100': { body: queue } })
  const { code, out, err } = await llamero('queue list', { url })
  assert.deepEqual([code, err], [0, ''])
  assert.equal(
    out,
    [
      'ID  MODEL     TENANT  CLASS    WAITED  WAITS FOR      STARTS IN',
      'r1  qwen3:8b  web     default    2.1s  slot on gpu-a      400ms',
      'r2  qwen3:8b  web     batch      2.1s  -                      -',
      '',
      'waiting    3 on instance a, the first 2 shown',
      'by class   default=2, batch=1',
      'by tenant  web=2, ops=1',
      '',
    ].join('\n'),
  )
  const wide = await llamero('queue ls -o wide', { url })
  assert.match(wide.out, /^r1 .* gpu-a 1\.9s, gpu-b 12s$/m)
  assert.match(wide.out, /^r2 .*\{"num_ctx":8192\}/m)
  assert.deepEqual(JSON.parse((await llamero('queue list -o json', { url })).out), queue)
  assert.deepEqual(parse((await llamero('queue list -o yaml', { url })).out), queue)
  assert.ok(received.every(({ path }) => path === '/queue?limit=100'))
})

test('queue list of an empty queue names the next command', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /queue?limit=5': { body: empty } })
  const { code, out, err } = await llamero('queue list --limit 5', { url })
  assert.deepEqual(
    [code, out, err],
    [0, '', 'nothing waits on instance a\n  hint: llamero queue decisions\n'],
  )
  assert.equal((await llamero('queue list --limit 0', { url })).code, 2)
})

for (const [name, options, tty, shown] of [
  [
    'in place on a terminal',
    '',
    true,
    /^ESC\[HESC\[2J2026-01-13T00:00:00.000Z\nID .*\n\nESC.*nothing waits/s,
  ],
  [
    'one after the other elsewhere',
    '',
    false,
    /^2026-01-13T00:00:00.000Z\nID .*\n\n2026.*:02.000Z\nnothing waits\n\n/s,
  ],
  ['as JSON, one document a line', ' -o json', false, /^\{.*"total":3.*\}\n\{.*"total":0.*\}\n/],
] as const) {
  test(`queue list --watch shows it anew every two seconds, ${name}, until it is interrupted`, async (t) => {
    const answers = [queue, empty]
    const { url } = await fakeAdmin(t, {
      'GET /queue?limit=100': (response) => {
        response.writeHead(200, { 'content-type': 'application/json' })
        response.end(JSON.stringify(answers.shift() ?? empty))
      },
    })
    const clock = new VirtualClock(new Date('2026-01-13T00:00:00Z'))
    const interrupt = new AbortController()
    const running = start(`queue list --watch${options}`, { url, tty, clock, signal: interrupt.signal })
    const looks = async (left: number) => {
      while (answers.length > left || clock.nextTimerAt() !== 2000 * (2 - left)) await setImmediate()
    }
    await looks(1)
    await clock.advance(2000)
    await looks(0)
    interrupt.abort()
    assert.equal(await running.done, 130)
    assert.match(running.stdout.text.replaceAll('\u001b', 'ESC'), shown)
  })
}

const detail: WaitingDetail = {
  ...aWaiting({ places: 14 }),
  instance: 'a',
  position: 1,
  prompt_tokens: 812,
  max_tokens: null,
  labels: { zone: 'a' },
  failed_on: ['gpu-c'],
}

test('queue show explains why a request waits, and the cost of each node', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /queue/r1': { body: detail },
    'GET /queue/r3': refusal(404, 'not_found', 'no waiting request named "r3"'),
    'GET /queue?limit=1000': { body: queue },
  })
  const { code, out } = await llamero('queue show r1', { url })
  assert.equal(code, 0)
  assert.equal(
    out,
    [
      'id         r1',
      'model      qwen3:8b',
      'variant    -',
      'tenant     web',
      'class      default',
      'position   1 on instance a',
      'waited     2.1s',
      'waits for  slot on gpu-a',
      'start      in 0.4s, when it has a slot',
      'prompt     about 812 tokens',
      'answer     of any length',
      'nodes      those labelled zone=a',
      'failed on  gpu-c',
      '',
      'NODE   STATE         START  PREFILL  DECODE  OTHERS  EVICTION    COST',
      'gpu-a  no slot free  1.20s    0.30s   0.00s   0.00s     0.00s   1.90s',
      'gpu-b  to be loaded  9.00s    0.00s   0.00s   0.00s     2.50s  12.00s',
      'and 12 nodes more',
      '',
    ].join('\n'),
  )
  assert.deepEqual(JSON.parse((await llamero('queue show r1 -o json', { url })).out), detail)
  const other = await llamero('queue show r3', { url })
  assert.equal(other.code, 3)
  assert.match(other.err, /no waiting request named "r3"\n {2}hint: did you mean "r[12]"\?/)
})

test('queue show of a request that no node could serve says so', async (t) => {
  const body = { ...detail, waits_for: null, starts_in_seconds: null, places: 0, candidates: [] }
  const { url } = await fakeAdmin(t, { 'GET /queue/r1': { body } })
  const { out } = await llamero('queue show r1', { url })
  assert.match(out, /^start +not known: no node can take it now$/m)
  assert.match(out, /\n\nno node can take it now: llamero node list\n$/)
})

test('queue show and queue list show why each excluded node cannot take a request', async (t) => {
  const health = { health: 'up', health_reason: 'the first probe was answered' } as const
  const excluded_nodes = [
    {
      node: 'gpu-a',
      excluded: 'down',
      health: 'down',
      health_reason: '3 probes in a row: ECONNREFUSED\u001b',
    },
    { ...health, node: 'gpu-b', excluded: 'tried' },
    // An instance of a newer version may name another reason.
    { ...health, node: 'gpu-c', excluded: 'moon' as 'busy' },
  ] as const
  const none = {
    waits_for: null,
    starts_in_seconds: null,
    places: 0,
    candidates: [],
    excluded_nodes,
    excluded_total: 12,
  }
  const { url } = await fakeAdmin(t, {
    'GET /queue/r1': { body: { ...detail, ...none } },
    'GET /queue?limit=100': { body: { ...queue, waiting: [aWaiting({ ...none, node: null })] } },
  })
  assert.ok(
    (await llamero('queue show r1', { url })).out.endsWith(
      [
        '',
        'NODE   CANNOT TAKE IT BECAUSE',
        'gpu-a  down: 3 probes in a row: ECONNREFUSED?',
        'gpu-b  has failed this request already',
        'gpu-c  moon',
        'and 9 nodes more',
        '',
      ].join('\n'),
    ),
  )
  assert.match(
    (await llamero('queue list', { url })).out,
    /^r1 .* a node \(gpu-a: down, gpu-b: has failed this request already, …\) +-$/m,
  )
})

test('queue cancel names the request and asks, and says when the request no longer waits', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /queue/r1': { body: detail },
    'DELETE /queue/r1': { status: 204 },
    'DELETE /queue/a%2Fb': refusal(404, 'not_found', 'no waiting request named "a/b"'),
    'GET /queue?limit=1000': { body: empty },
  })
  const refused = await llamero('queue cancel r1', { url, typed: 'n\n' })
  assert.equal(refused.code, 1)
  assert.match(
    refused.err,
    /Cancel this request of tenant web for qwen3:8b, which has waited 2\.1s\? \[y\/N\]/,
  )
  assert.equal((await llamero('queue cancel r1', { url })).code, 2)
  assert.ok(received.every(({ method }) => method === 'GET'))
  const cancelled = await llamero('queue cancel r1 --yes', { url })
  assert.deepEqual([cancelled.code, cancelled.err], [0, 'r1: cancelled\n'])
  const gone = await llamero('queue cancel a/b -y', { url })
  assert.equal(gone.code, 3)
  assert.match(gone.err, /hint: llamero queue list/)
})

const decision: DecisionAnswer = {
  id: 'r0',
  decided: '2026-01-12T23:59:30Z',
  model: 'qwen3:8b',
  tenant: 'web',
  class: 'default',
  node: 'gpu-a',
  reason: 'warm',
  outcome: 'answered',
  waited_seconds: 0,
  predicted_ttft_seconds: 0.42,
  actual_ttft_seconds: 1.5,
  candidates,
}

test('queue decisions shows predicted and actual times to the first token, and the other candidates', async (t) => {
  const unsent = { node: null, reason: null, predicted_ttft_seconds: null, actual_ttft_seconds: null }
  const decisions = [
    decision,
    { ...decision, outcome: 'running', actual_ttft_seconds: null, candidates: candidates.slice(0, 1) },
    { ...decision, ...unsent, outcome: 'no-capacity', candidates: [] },
  ]
  const { url } = await fakeAdmin(t, {
    'GET /decisions?limit=10&model=qwen3%3A8b&tenant=web': { body: { instance: 'a', decisions } },
    'GET /decisions?limit=100&outcome=failed': { body: { instance: 'a', decisions: [] } },
    'GET /decisions?limit=100': { body: { instance: 'a', decisions: [] } },
  })
  const { code, out } = await llamero('queue decisions --model qwen3:8b --tenant web --limit 10', { url })
  assert.equal(code, 0)
  assert.equal(
    out,
    [
      'AGE  MODEL     TENANT  NODE   REASON  OUTCOME      PREDICTED  ACTUAL  COST  INSTEAD OF',
      '30s  qwen3:8b  web     gpu-a  warm    answered         420ms    1.5s  1.9s  gpu-b 12s',
      '30s  qwen3:8b  web     gpu-a  warm    running          420ms       -  1.9s  -',
      '30s  qwen3:8b  web     -      -       no-capacity          -       -     -  -',
      '',
    ].join('\n'),
  )
  assert.equal((await llamero('queue decisions --outcome failed', { url })).code, 0)
  const none = await llamero('queue decisions', { url })
  assert.deepEqual(
    [none.code, none.err],
    [0, 'instance a has no such request among its last ones\n  hint: llamero queue list\n'],
  )
})

test('the help of queue has examples, and explains the terms of a cost', async () => {
  for (const command of ['list', 'show', 'cancel', 'decisions'])
    assert.match((await llamero(`queue ${command} --help`)).out, /Examples?:\n {2}llamero queue/)
  assert.match((await llamero('queue show --help')).out, /COST is their weighted sum/)
})
