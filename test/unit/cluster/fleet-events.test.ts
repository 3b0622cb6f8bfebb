import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fleetEvents } from '../../../lib/cluster/config/fleet-events.ts'
import { aSnapshot } from '../../support/fleet.ts'

type Health = 'up' | 'slow' | 'down' | 'unknown'
const nodes = (healths: Readonly<Record<string, Health>>) =>
  aSnapshot({ nodes: Object.entries(healths).map(([name, health]) => ({ name, health })) }).nodes
const lines = (former: Readonly<Record<string, Health>>, current: Readonly<Record<string, Health>>) =>
  fleetEvents(nodes(former), nodes(current)).map(
    ({ level, message, fields }) => `${level}: ${message} ${fields['node']}`,
  )

test('a node that goes down is a warning, and good news when it is up again (310)', () => {
  assert.deepEqual(lines({ a: 'up', b: 'up' }, { a: 'down', b: 'up' }), ['warn: node down a'])
  assert.deepEqual(lines({ a: 'down' }, { a: 'up' }), ['info: node up a'])
})

test('a node that becomes slow is a warning of its own, and good news when it is up again (302)', () => {
  assert.deepEqual(lines({ a: 'up', b: 'down' }, { a: 'slow', b: 'slow' }), [
    'warn: node slow a',
    'warn: node slow b',
  ])
  assert.deepEqual(lines({ a: 'slow', b: 'slow' }, { a: 'up', b: 'down' }), [
    'info: node up a',
    'warn: node down b',
  ])
})

test('each of several nodes has a line of its own (310)', () => {
  assert.deepEqual(lines({ a: 'up', b: 'down', c: 'up' }, { a: 'down', b: 'up', c: 'down' }), [
    'warn: node down a',
    'info: node up b',
    'warn: node down c',
  ])
})

test('a node that is found down at the start is a warning, one that is found up is no news (310)', () => {
  assert.deepEqual(lines({}, { a: 'down', b: 'up' }), ['warn: node down a'])
  assert.deepEqual(lines({ a: 'unknown' }, { a: 'up' }), [])
})

test('no line for a node that did not change, was removed or became unknown (310)', () => {
  assert.deepEqual(lines({ a: 'down' }, { a: 'down' }), [])
  assert.deepEqual(lines({ a: 'up' }, {}), [])
  for (const health of ['up', 'slow', 'down'] as const)
    assert.deepEqual(lines({ a: health }, { a: 'unknown' }), [])
})

test('the line of a node that went down says why, and how many models are affected (310)', () => {
  const [view] = nodes({ a: 'down' }).values()
  assert(view?.status)
  const reason = 'connection refused'
  const down = new Map([['a', { ...view, status: { ...view.status, reason } }]])
  const [event] = fleetEvents(nodes({ a: 'up' }), down)
  assert.deepEqual(event?.fields, { node: 'a', reason, models: 1 })
})
