import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  examine,
  type Finding,
  unknownVitals,
  type Vitals,
  wantsConfirmation,
} from '../../../lib/cluster/probing/node-health.ts'

const good: Finding = { kind: 'answered' }
/** A dead host says nothing; a connection to it does not come up. */
const silent: Finding = { kind: 'unreachable', reason: 'no connection within 1000 ms' }
const timeout: Finding = { kind: 'timeout', reason: 'no answer within 1000 ms' }
const refused: Finding = { kind: 'refused', reason: 'connection refused' }
const own: Finding = { kind: 'none', reason: 'this instance itself was late' }
type Attested = Parameters<typeof examine>[2]['attested']

/** Probes two seconds apart, unless a finding comes with its own time. */
function after(
  findings: readonly (Finding | [Finding, number])[],
  from: Vitals = unknownVitals,
  attested: Attested = null,
): Vitals {
  let at = 0
  return findings.reduce<Vitals>((vitals, step) => {
    const [finding, pauseMs] = Array.isArray(step) ? step : [step as Finding, 2000]
    at += pauseMs
    return examine(vitals, finding, { at, rise: 2, fall: 3, attested })
  }, from)
}

test('an unknown node is up after its first good probe', () => {
  assert.equal(after([good]).health, 'up')
  assert.equal(after([silent, silent, good]).health, 'up')
})

test('an unknown node stays unknown until it has failed as often as a known one', () => {
  assert.equal(after([silent, silent]).health, null)
  assert.equal(after([silent, silent, silent]).health, 'down')
})

test('an up node falls with the third bad probe in a row, not earlier', () => {
  assert.equal(after([good, silent, silent]).health, 'up')
  assert.equal(
    after([good, silent, silent, good, silent, silent]).health,
    'up',
    'a good one starts the count anew',
  )
  const down = after([good, silent, silent, silent])
  assert.equal(down.health, 'down')
  assert.equal(down.reason, '3 probes in a row failed: no connection within 1000 ms')
})

test('a down node rises with the second good probe in a row', () => {
  const down = [good, silent, silent, silent]
  assert.equal(after([...down, good]).health, 'down')
  assert.equal(after([...down, good, silent, good]).health, 'down')
  const up = after([...down, good, good])
  assert.equal(up.health, 'up')
  assert.equal(up.reason, '2 probes in a row answered')
})

test('two refusals within 250 ms are enough, two refusals a probe apart are not', () => {
  assert.equal(after([good, refused]).health, 'up')
  assert.equal(after([good, refused, refused]).health, 'up')
  const down = after([good, refused, [refused, 250]])
  assert.equal(down.health, 'down')
  assert.equal(down.reason, 'connection refused, confirmed by a second try')
  assert.equal(after([good, refused, [refused, 251]]).health, 'up')
  assert.equal(
    after([good, refused, [silent, 100], [refused, 100]]).health,
    'down',
    'three bad probes in any case',
  )
  assert.equal(after([good, refused, [good, 100], [refused, 100]]).health, 'up')
})

test('a refusal asks for confirmation only while it could change something', () => {
  assert.ok(wantsConfirmation(after([good, refused])))
  assert.ok(!wantsConfirmation(after([good, refused, [refused, 100]])))
  assert.ok(!wantsConfirmation(after([good, silent])))
  assert.ok(!wantsConfirmation(after([good, refused, [good, 100]])))
})

test('the reason tells why the node became what it is, not what came after', () => {
  assert.equal(after([good, good, good]).reason, 'the first probe was answered')
  const down = after([good, silent, silent, silent, refused, refused])
  assert.equal(down.reason, '3 probes in a row failed: no connection within 1000 ms')
})

test('a node whose probes time out is slow, never down, however long that lasts (302)', () => {
  const known = after([good])
  assert.equal(after([timeout, timeout], known).health, 'up')
  const slow = after([timeout, timeout, timeout], known)
  assert.deepEqual(
    [slow.health, slow.fault, slow.reason],
    ['slow', 'timeout', '3 probes in a row timed out: no answer within 1000 ms'],
  )
  assert.equal(after(Array(100).fill(timeout), slow).health, 'slow')
  assert.equal(after([timeout, timeout, timeout]).health, 'slow', 'also one that nobody knows')
  assert.equal(after([good], slow).health, 'slow')
  assert.equal(after([good, good], slow).health, 'up')
})

test('a probe that timed out counts for nothing where requests were answered meanwhile (302)', () => {
  const known = after([good])
  assert.equal(after(Array(100).fill(timeout), known, 'probe').health, 'up')
  const slow = after([timeout, timeout, timeout], known)
  assert.equal(after([timeout, timeout], slow, 'probe').health, 'up')
})

test('the first timeout is followed at once by a probe over fresh connections, which tells slow from gone (302)', () => {
  assert.ok(wantsConfirmation(after([good, timeout])))
  assert.ok(!wantsConfirmation(after([good, timeout, timeout])))
  const gone = after([good, timeout, silent, silent])
  assert.deepEqual(
    [gone.health, gone.fault],
    ['down', 'unreachable'],
    'three failed, two of them by their connections',
  )
  const mixed = after([good, timeout, timeout, silent])
  assert.deepEqual([mixed.health, mixed.fault], ['slow', 'unreachable'])
  assert.equal(after([silent, silent], mixed).health, 'down')
})

test('a node that was down and takes connections again is slow, and up once it answers (302)', () => {
  const down = after([good, silent, silent, silent])
  assert.equal(after([timeout], down).health, 'down')
  const slow = after([timeout, timeout], down)
  assert.equal(slow.health, 'slow')
  assert.equal(after([good, good], slow).health, 'up')
})

test('a probe that failed for a reason of this instance changes nothing (301)', () => {
  const known = after([good, silent, silent])
  assert.equal(after([own, own, own], known), known)
  assert.equal(after([own, silent], known).health, 'down')
})

test('a node that fails its probes while requests are answered there is slow, and down once they are not (302)', () => {
  const known = after([good, silent])
  const slow = after([silent, silent, silent], known, 'streak')
  assert.equal(slow.health, 'slow')
  assert.match(slow.reason, /no connection within 1000 ms, but the node answers requests/)
  assert.equal(after([silent], slow).health, 'down')
  assert.equal(
    after([silent], after([silent, silent], known), 'streak').health,
    'slow',
    'also after it was down',
  )
  assert.equal(after([refused, [refused, 100]], after([good]), 'streak').health, 'slow')
})
