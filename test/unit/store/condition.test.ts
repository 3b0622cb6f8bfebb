import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLog } from '../../../lib/shared/log.ts'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { Condition, type Trouble } from '../../../lib/store/condition.ts'
import { alarmIn, troubleOf } from '../../../lib/store/etcd/etcd-errors.ts'

const full: Trouble = { kind: 'no-space', refuses: 'writes', reason: 'it is full', remedy: 'make room' }
const barred: Trouble = {
  kind: 'no-permission',
  refuses: 'everything',
  reason: 'who asks?',
  remedy: 'say it',
}

function aCondition() {
  const clock = new VirtualClock()
  const metrics = new Metrics()
  const lines: string[] = []
  const changes: (string | null)[] = []
  const log = {
    ...silentLog,
    warn: (message: string, fields?: object) => void lines.push(`${message} ${JSON.stringify(fields)}`),
    info: (message: string) => void lines.push(message),
  }
  const condition = new Condition({ clock, log, metrics, settleMs: 2500 })
  condition.onChange(() => changes.push(condition.trouble?.kind ?? null))
  return { clock, metrics, lines, changes, condition }
}

test('a refusal is logged once a minute with the remedy, and ends with a write that succeeds (308)', async () => {
  const { clock, metrics, lines, changes, condition } = aCondition()
  for (let second = 0; second < 59; second++) {
    condition.refused(full)
    await clock.advance(1000)
  }
  assert.equal(lines.length, 1)
  assert.match(lines[0] ?? '', /read-only: requests go on .*it is full.*make room/)
  assert.equal(condition.trouble?.since.toISOString(), '2026-01-01T00:00:00.000Z')
  const shown = async () => (await metrics.storeTrouble.get()).values.filter(({ value }) => value === 1)
  assert.deepEqual(
    (await shown()).map(({ labels }) => labels.kind),
    ['no-space'],
  )
  await clock.advance(2000)
  condition.refused(full)
  assert.equal(lines.length, 2)
  await clock.advance(2500)
  condition.read()
  assert.equal(condition.trouble?.kind, 'no-space', 'reading was never refused')
  condition.wrote()
  assert.equal(condition.trouble, null)
  assert.deepEqual(await shown(), [])
  assert.deepEqual(changes, ['no-space', null])
  condition.refused(full)
  await clock.advance(2500)
  condition.cleared('corrupt')
  condition.cleared('corrupt', 'no-space')
  assert.deepEqual(changes, ['no-space', null, 'no-space', null], 'the store says that it has room')
})

test('while some keys are refused and others are not, the trouble stays and is not logged each time (308)', async () => {
  const { clock, lines, changes, condition } = aCondition()
  for (let n = 0; n < 50; n++) {
    condition.refused(full)
    await clock.advance(500)
    condition.wrote()
    await clock.advance(500)
  }
  assert.equal(lines.length, 1)
  assert.deepEqual(changes, ['no-space'])
})

test('while reads are refused, refused writes are not logged, and a read ends the trouble (308)', async () => {
  const { clock, lines, condition } = aCondition()
  for (let n = 0; n < 10; n++) {
    condition.refused(barred)
    condition.refused({ ...barred, refuses: 'writes' })
    await clock.advance(1000)
  }
  assert.equal(lines.length, 1)
  await clock.advance(2500)
  condition.read()
  assert.equal(condition.trouble, null)
})

test('lasting refusals of etcd are told apart from refusals of one call (308)', () => {
  for (const [said, isRead, kind, refuses] of [
    ['etcdserver: mvcc: database space exceeded', false, 'no-space', 'writes'],
    ['etcdserver: corrupt cluster', false, 'corrupt', 'everything'],
    ['etcdserver: permission denied', false, 'no-permission', 'writes'],
    ['etcdserver: permission denied', true, 'no-permission', 'everything'],
    ['etcdserver: user name is empty', true, 'no-permission', 'everything'],
  ] as const) {
    const trouble = troubleOf(new Error(said), isRead)
    assert.deepEqual([trouble?.kind, trouble?.refuses], [kind, refuses], said)
    assert.ok(trouble?.reason && trouble.remedy)
  }
  assert.equal(troubleOf(new Error('etcdserver: request is too large'), false), null)
  assert.equal(alarmIn(['memberID:9372538179322589801 alarm:NOSPACE '])?.kind, 'no-space')
  assert.equal(alarmIn(['memberID:1 alarm:CORRUPT '])?.kind, 'corrupt')
  assert.equal(alarmIn(['etcdserver: no leader']), null)
})
