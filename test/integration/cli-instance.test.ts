import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { InstanceAnswer } from '../../lib/api/instances.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { type Answer, drive, fakeAdmin, llamero, refusal, start } from '../support/cli.ts'

function anInstance(given: Partial<InstanceAnswer> & { id: string }): InstanceAnswer {
  return {
    version: '0.1.0',
    data: '10.0.0.1:11434',
    admin: '127.0.0.1:11400',
    started: '2026-01-01T00:00:00Z',
    role: 'standby',
    draining: false,
    revision: '840',
    running: 0,
    queued: 0,
    ...given,
  }
}

const instances = {
  apiVersion: 'llamero/v1',
  instances: [
    anInstance({ id: 'a', role: 'leader', running: 3 }),
    anInstance({ id: 'b', draining: true, queued: 2, revision: '812' }),
  ],
}

test('instance list shows the leader, draining instances, and the revision in force on each', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /instances': { body: instances } })
  const { code, out, err } = await llamero('instance list', { url })
  assert.deepEqual([code, err], [0, ''])
  assert.equal(
    out,
    [
      'ID  ROLE     STATE     RUNNING  QUEUED  REVISION  VERSION  UP',
      'a   leader   active          3       0       840  0.1.0    12d',
      'b   standby  draining        0       2       812  0.1.0    12d',
      '',
    ].join('\n'),
  )
  assert.match((await llamero('instance ls -o wide', { url })).out, /10\.0\.0\.1:11434 +127\.0\.0\.1:11400/)
  assert.deepEqual(JSON.parse((await llamero('instance list -o json', { url })).out), instances)
})

/** A cluster that has the leaders given, one per look; the last one stays. */
function led(...leaders: ({ id: string; fence: string } | null)[]): Answer {
  let at = 0
  return (response) => {
    const leader = leaders[Math.min(at++, leaders.length - 1)]
    response.end(JSON.stringify({ leader, instance: { id: 'a' } }))
  }
}

const former = { id: 'a', fence: '10' }

test('step-down is sent to the leader, waits for the next one and names it', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /status': led(former, former, null, { id: 'b', fence: '20' }),
    'POST /instances/a/step-down': { body: {} },
  })
  const clock = new VirtualClock()
  const { done, stdout, stderr } = start('instance step-down --to b --yes', { url, clock })
  assert.equal(await drive(clock, done), 0)
  assert.deepEqual(received.find(({ method }) => method === 'POST')?.body, { to: 'b' })
  assert.deepEqual([stdout.text, stderr.text], ['', 'b leads now, fence 20; before: a\n'])
})

test('step-down asks before it acts, and only yes is yes', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'GET /status': led(former) })
  const { code, err } = await llamero('instance step-down', { url, typed: 'n\n' })
  assert.equal(code, 1)
  assert.match(err, /^a leads; hand over to another instance\? \[y\/N\] error: nothing was changed/)
  assert.equal((await llamero('instance step-down', { url })).code, 2)
  assert.ok(received.every(({ method }) => method === 'GET'))
})

test('step-down is a conflict when another instance wins, and times out when none does', async (t) => {
  const wrong = await fakeAdmin(t, {
    'GET /status': led(former, { id: 'c', fence: '20' }),
    'POST /instances/a/step-down': { body: {} },
  })
  const { code, err } = await llamero('instance step-down --to b -y', { url: wrong.url })
  assert.equal(code, 5)
  assert.match(err, /^error: c leads now, fence 20, not b\n/)

  const nobody = await fakeAdmin(t, {
    'GET /status': led(former, null),
    'POST /instances/a/step-down': { body: {} },
  })
  const clock = new VirtualClock()
  const { done, stderr } = start('instance step-down -y --timeout 2s', { url: nobody.url, clock })
  assert.equal(await drive(clock, done), 8)
  assert.match(stderr.text, /^error: no instance leads after 2\.0s/)
})

test('step-down fails with the reason: no leader, an unknown successor, a standby', async (t) => {
  const none = await fakeAdmin(t, { 'GET /status': led(null) })
  assert.equal((await llamero('instance step-down -y', { url: none.url })).code, 7)

  const stranger = await fakeAdmin(t, {
    'GET /status': led(former),
    'GET /instances': { body: { instances: [anInstance({ id: 'proxy-b' })] } },
    'POST /instances/a/step-down': refusal(404, 'not_found', 'no instance named "proxyb"'),
  })
  const typo = await llamero('instance step-down --to proxyb -y', { url: stranger.url })
  assert.equal(typo.code, 3)
  assert.equal(typo.err, 'error: no instance named "proxyb"\n  hint: did you mean "proxy-b"?\n')

  const standby = await fakeAdmin(t, {
    'GET /status': led(former),
    'POST /instances/a/step-down': refusal(409, 'conflict', 'this is instance "b"; ask "a" itself'),
  })
  const refused = await llamero('instance step-down -y', { url: standby.url })
  assert.equal(refused.code, 5)
  assert.equal(refused.err, 'error: this is instance "b"; ask "a" itself\n')
})

test('drain takes the instance out of service and waits until it is idle', async (t) => {
  const looks = [
    { running: 2, queued: 1 },
    { running: 0, queued: 0 },
  ]
  let at = 0
  const { url, received } = await fakeAdmin(t, {
    'GET /status': led(former),
    'POST /instances/a/drain': { body: {} },
    'GET /instances': (response) => {
      const seen = anInstance({ id: 'a', draining: true, ...looks[Math.min(at++, 1)] })
      response.end(JSON.stringify({ instances: [seen] }))
    },
  })
  const clock = new VirtualClock()
  const { done, stderr } = start('instance drain', { url, clock })
  assert.equal(await drive(clock, done), 0)
  assert.equal(
    stderr.text,
    [
      'a: draining; waiting up to 5m for its requests to end',
      'a: requests: 2 running, 1 queued',
      'a: requests: none left; waiting for load balancers',
      'a: drained in 4.0s',
      '  hint: llamero instance drain a --cancel',
      '',
    ].join('\n'),
  )
  assert.deepEqual(
    received.filter(({ method }) => method !== 'GET').map(({ method, path }) => `${method} ${path}`),
    ['POST /instances/a/drain'],
  )
})

test('drain gives up after --timeout, returns at once with --no-wait, and is taken back with --cancel', async (t) => {
  const busy = anInstance({ id: 'a', draining: true, running: 1 })
  const { url, received } = await fakeAdmin(t, {
    'POST /instances/a/drain': { body: {} },
    'DELETE /instances/a/drain': { body: {} },
    'GET /instances': { body: { instances: [busy] } },
  })
  const clock = new VirtualClock()
  const { done, stderr } = start('instance drain a --timeout 3s', { url, clock })
  assert.equal(await drive(clock, done), 8)
  assert.match(stderr.text, /error: a: requests: 1 running, 0 queued after 3\.0s; it stays draining/)
  const noWait = await llamero('instance drain a --no-wait', { url })
  assert.deepEqual([noWait.code, noWait.err], [0, 'a: draining\n  hint: llamero instance drain a --cancel\n'])
  const cancel = await llamero('instance drain a --cancel', { url })
  assert.deepEqual([cancel.code, cancel.err], [0, 'a: in service again\n'])
  assert.equal(received.at(-1)?.method, 'DELETE')
})
