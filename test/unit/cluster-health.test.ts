import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  examine,
  type Finding,
  unknownVitals,
  type Vitals,
  wantsConfirmation,
} from '../../lib/cluster/health.ts'

const good: Finding = { good: true }
const silent: Finding = { good: false, reason: 'no answer within 1000 ms', refused: false }
const refused: Finding = { good: false, reason: 'connection refused', refused: true }

/** Probes two seconds apart, unless a finding comes with its own time. */
function after(findings: readonly (Finding | [Finding, number])[], from: Vitals = unknownVitals): Vitals {
  let at = 0
  return findings.reduce<Vitals>((vitals, step) => {
    const [finding, pauseMs] = Array.isArray(step) ? step : [step as Finding, 2000]
    at += pauseMs
    return examine(vitals, finding, { at, rise: 2, fall: 3 })
  }, from)
}

test('a node nobody knows is up after its first good probe', () => {
  assert.equal(after([good]).health, 'up')
  assert.equal(after([silent, silent, good]).health, 'up')
})

test('a node nobody knows stays unknown until it has failed as often as any other', () => {
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
  assert.equal(down.reason, '3 probes in a row failed: no answer within 1000 ms')
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
  assert.equal(down.reason, '3 probes in a row failed: no answer within 1000 ms')
})
