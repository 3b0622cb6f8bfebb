import assert from 'node:assert/strict'
import { after, before, beforeEach, suite, test } from 'node:test'
import type { AdminContext } from '../../lib/admin/admin-context.ts'
import { AdminServer } from '../../lib/admin/server.ts'
import type { DecisionAnswer } from '../../lib/api/decisions.ts'
import type { CandidateAnswer, ExcludedNode } from '../../lib/api/estimate.ts'
import type { QueueAnswer } from '../../lib/api/queue.ts'
import { retryHeaders } from '../../lib/gateway/http/error-response.ts'
import type { Scheduler } from '../../lib/scheduler/scheduler.ts'
import { ProxyError } from '../../lib/shared/errors.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { aCore, aNode, aRequest } from '../support/core.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'

const token = 'canary-admin-token'
const m = 'm:latest'
/** One has the model in memory, with one slot; the other has it on disk, and room for it. */
const nodes = [
  aNode({ name: 'warm', models: { [m]: 5 }, loaded: [m] }),
  aNode({ name: 'cold', models: { [m]: 5 }, loaded: [] }),
]

type Explaining = Pick<Scheduler, 'queued' | 'decisions' | 'explain' | 'slots' | 'cancel'>

/** Lets in whoever comes. */
const patient = { otherClass: { limitS: 1000 }, admission: { maxWaitS: 1000 } }

/** A core as the scheduler's shell shows it, without the requests themselves. What only that knows, `shell` tells. */
function explaining(scene: () => ReturnType<typeof aCore>, shell: Scheduler): Explaining {
  return {
    queued: () => scene().core.queued(),
    decisions: () => scene().core.decisions(),
    explain: (ask) => ({
      ...shell.explain(ask),
      ...scene().core.explain(aRequest({ ...ask, arrivedAt: ask.arrivedAt / 1000 }), scene().clock.now),
    }),
    slots: (node, ask) => shell.slots(node, ask),
    cancel: (id) => {
      const waits = scene()
        .core.queued()
        .some(({ request }) => request.id === id)
      if (waits) scene().tell({ type: 'left', id })
      return waits
    },
  }
}

suite('the queue in the admin API', () => {
  const clock = new VirtualClock()
  let gateway: Awaited<ReturnType<typeof startGateway>>
  let server: AdminServer
  let url: string
  let scene: ReturnType<typeof aCore>

  before(async () => {
    await clock.advance(1_000_000)
    gateway = await startGateway(aSnapshot({ nodes: [{ name: 'warm', loaded: [m] }, { name: 'cold' }] }))
    const { current: snapshot } = gateway
    const scheduler = explaining(() => scene, gateway.scheduler)
    const listen = { host: '127.0.0.1', port: 0 }
    const around = { snapshot, scheduler, clock, log: silentLog, store: {} }
    const context = { instance: 'one', listen, token, ...around }
    server = new AdminServer(context as unknown as AdminContext)
    url = `http://127.0.0.1:${(await server.listen()).port}/admin/v1`
  })
  after(async () => {
    await server.close()
    await gateway[Symbol.asyncDispose]()
  })
  beforeEach(() => {
    scene = aCore(nodes, patient)
    scene.clock.now = clock.now() / 1000
  })

  async function ask(method: string, path: string, body?: object) {
    const response = await fetch(`${url}/${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, body: text === '' ? null : JSON.parse(text) }
  }
  const arrive = (...works: Parameters<typeof aRequest>[0][]) =>
    scene.arrive(...works.map((work) => ({ model: m, ...work })))
  /** Lets so much time pass for all. */
  const pass = async (seconds: number) => {
    await clock.advance(seconds * 1000)
    scene.after(seconds)
  }

  test('lists the waiting requests in serving order, with reason and node, and counts them by class and tenant', async () => {
    arrive({ id: 'running' })
    arrive({ id: 'first', tenant: 'web' }, { id: 'second', tenant: 'ops', class: 'batch' })
    await pass(0.5)
    const { body }: { body: QueueAnswer } = await ask('GET', 'queue')
    assert.deepEqual(
      [body.instance, body.total, body.by_class, body.by_tenant],
      ['one', 2, { normal: 1, batch: 1 }, { web: 1, ops: 1 }],
    )
    assert.deepEqual(
      body.waiting.map(({ id, node, waits_for, starts_in_seconds: starts }) => [id, node, waits_for, starts]),
      scene.core
        .queued()
        .map(({ request, plan }) => [
          request.id,
          plan?.node,
          plan?.waitsFor,
          Math.round(((plan?.startsAt ?? 0) - clock.now() / 1000) * 1000) / 1000,
        ]),
    )
    const first = body.waiting.find(({ id }) => id === 'first')
    assert.ok(first)
    const { candidates, places, waited_seconds, model, variant, tenant } = first
    assert.deepEqual([waited_seconds, model, variant, tenant, first.class], [0.5, m, '', 'web', 'normal'])
    assert.equal(places, candidates?.length)
    const costs = (candidates ?? []).map(({ cost_seconds }) => cost_seconds)
    assert.deepEqual(costs, costs.toSorted(ascending))
    assert.ok(candidates?.some(({ node, state }) => node === 'warm' && state === 'full'))
  })

  test('computes candidates of the first twenty requests, and lists as many requests as the limit says', async () => {
    arrive(...Array.from({ length: 30 }, (_, n) => ({ id: `r${n}`, tenant: `t${n}` })))
    const { total, waiting: all }: QueueAnswer = (await ask('GET', 'queue')).body
    assert.deepEqual([total, all.length], [29, 29])
    assert.ok(all.slice(0, 20).every(({ candidates }) => candidates !== null))
    assert.ok(all.slice(20).every(({ candidates, places }) => candidates === null && places === null))
    const few: QueueAnswer = (await ask('GET', 'queue?limit=3')).body
    assert.deepEqual([few.total, few.waiting.length], [29, 3])
    for (const query of ['limit=0', 'limit=1001', 'limit=x', 'limit=', 'limit=1&limit=2', 'lmit=3'])
      assert.equal((await ask('GET', `queue?${query}`)).status, 422, query)
  })

  test('shows one request without its content', async () => {
    arrive({ id: 'running' })
    arrive({
      id: 'r/1',
      prefixes: [{ hash: 123456789, tokens: 10 }],
      tried: new Set(['broken']),
      labels: {},
      maxTokens: null,
    })
    const { status, body } = await ask('GET', 'queue/r%2F1')
    assert.deepEqual(
      [status, body.id, body.position, body.prompt_tokens, body.max_tokens, body.labels, body.failed_on],
      [200, 'r/1', 1, 1000, null, {}, ['broken']],
    )
    assert.ok(body.candidates.length > 0)
    assert.doesNotMatch(JSON.stringify(body), /prefix|hash|123456789/)
    const unknown = await ask('GET', 'queue/none')
    assert.deepEqual([unknown.status, unknown.body.error.message], [404, 'no waiting request named "none"'])
  })

  test('shows why each excluded node cannot take a request', async () => {
    arrive({ id: 'running' })
    arrive({ id: 'again', tried: new Set(['cold']) })
    for (const { excluded_total, excluded_nodes } of [
      (await ask('GET', 'queue/again')).body,
      (await ask('GET', 'queue')).body.waiting[0],
    ])
      assert.deepEqual(
        [excluded_total, excluded_nodes.map(({ node, excluded }: ExcludedNode) => [node, excluded])],
        [1, [['cold', 'tried']]],
      )
  })

  test('cancels a request for an operator only, and answers 404 when it no longer waits', async () => {
    arrive({ id: 'running' })
    arrive({ id: 'tired' })
    assert.equal((await fetch(`${url}/queue/tired`, { method: 'DELETE' })).status, 401)
    assert.equal((await ask('DELETE', 'queue/running')).status, 404)
    assert.equal((await ask('DELETE', 'queue/tired')).status, 204)
    assert.deepEqual((await ask('GET', 'queue')).body.waiting, [])
    assert.equal((await ask('DELETE', 'queue/tired')).status, 404)
  })

  test('an SDK whose request was cancelled does not send it again by itself', () => {
    const { status, retryAfter, message } = new ProxyError('cancelled')
    assert.equal(
      message,
      'an operator removed this request from the queue; ask the operator before you send it again',
    )
    assert.deepEqual(retryHeaders('openai', status, retryAfter), { 'x-should-retry': 'false' })
  })

  test('lists the last decisions with their reasons, and the predicted and actual time to the first token', async () => {
    arrive({ id: 'one', tenant: 'web' })
    await pass(2)
    scene.tell({ type: 'first-token', id: 'one' })
    scene.end('one')
    arrive({ id: 'two', tenant: 'ops' })
    const { decisions }: { decisions: DecisionAnswer[] } = (await ask('GET', 'decisions')).body
    const [two, one] = decisions
    assert.ok(one && two)
    assert.deepEqual([two.id, two.actual_ttft_seconds, two.tenant], ['two', null, 'ops'])
    const { candidates, predicted_ttft_seconds: predicted, decided, ...rest } = one
    assert.deepEqual(rest, {
      id: 'one',
      model: m,
      tenant: 'web',
      class: 'normal',
      node: 'warm',
      reason: 'warm',
      outcome: 'answered',
      waited_seconds: 0,
      actual_ttft_seconds: 2,
    })
    assert.equal(Date.parse(decided), clock.date().getTime() - 2000)
    assert.ok(predicted !== null && predicted > 0 && predicted < 2)
    assert.equal(candidates[0]?.node, 'warm')
    const chosen: Partial<CandidateAnswer> = { state: 'ready', start_seconds: 0, eviction_seconds: 0 }
    assert.partialDeepStrictEqual(candidates[0], chosen)
  })

  test('filters decisions by model in any spelling and by tenant, up to the limit', async () => {
    arrive({ id: 'one', tenant: 'web' })
    scene.end('one')
    arrive({ id: 'two', tenant: 'ops' })
    const found = async (query: string) =>
      (await ask('GET', `decisions?${query}`)).body.decisions.map(({ id }: { id: string }) => id)
    assert.deepEqual(await found('model=M'), ['two', 'one'])
    assert.deepEqual(await found('model=other'), [])
    assert.deepEqual(await found('tenant=web'), ['one'])
    assert.deepEqual(await found('limit=1'), ['two'])
    assert.equal((await ask('GET', 'decisions?limit=5000')).status, 422)
    const { error } = (await ask('GET', 'decisions?modle=m')).body
    assert.match(error.message, /did you mean "model"/)
  })

  test('a route test shows what a request would wait for, until when, and the cost of each node', async () => {
    arrive({ id: 'running' })
    const { body } = await ask('POST', 'routes/test', { model: 'm' })
    const { waits_for, starts_in_seconds, candidates } = body.estimate
    assert.ok(['slot', 'load'].includes(waits_for))
    assert.ok(starts_in_seconds > 0)
    assert.deepEqual(candidates.map(({ node }: CandidateAnswer) => node).sort(), ['cold', 'warm'])
    assert.equal(scene.core.queued().length, 0)
  })
})

function ascending(a: number, b: number): number {
  return a - b
}
