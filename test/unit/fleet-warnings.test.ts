import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NodeStatus } from '../../lib/fleet/node.ts'
import { buildSnapshot } from '../../lib/fleet/snapshot.ts'
import { fleetWarnings } from '../../lib/fleet/warnings.ts'
import { isBefore } from '../../lib/shared/versions.ts'
import { aDocuments } from '../support/fleet.ts'

interface Sketch {
  readonly version?: string
  readonly digest?: string
  readonly capabilities?: readonly string[]
  readonly state?: 'active' | 'off'
}

/** What is said of nodes of these versions, whose only model can do these things. */
function warningsFor(sketches: Readonly<Record<string, Sketch>>): readonly string[] {
  const nodes = Object.entries(sketches).map(([name, { state = 'active' }]) => ({ name, state }))
  const documents = aDocuments({ nodes })
  const statuses = new Map(
    [...documents.statuses].map(([name, status]): [string, NodeStatus] => {
      const { version = '0.33.1', digest = 'd', capabilities } = sketches[name] ?? {}
      const models = status.models.map((model) => ({
        ...model,
        digest,
        ...(capabilities && { capabilities }),
      }))
      return [name, { ...status, version, models }]
    }),
  )
  return fleetWarnings(buildSnapshot({ ...documents, statuses }))
}

test('versions that answer differently are warned of, with the nodes that are behind (374)', () => {
  const [warning, ...rest] = warningsFor({
    a: { version: '0.33.1' },
    b: { version: '0.32.9' },
    c: { version: '0.31.0' },
  })
  assert.match(
    warning ?? '',
    /since 0\.32\.10 the default repeat_penalty is 1\.0.*Before it: b \(0\.32\.9\), c \(0\.31\.0\)\. Upgrade/,
  )
  assert.deepEqual(rest, [])
})

test('versions on one side of a change, unknown ones and nodes that are off are no reason to warn (374)', () => {
  assert.deepEqual(warningsFor({ a: { version: '0.33.1' }, b: { version: '0.32.10-rc0' } }), [])
  assert.deepEqual(warningsFor({ a: { version: '0.32.9' }, b: { version: '0.31.0' } }), [])
  assert.deepEqual(
    warningsFor({ a: {}, b: { version: '0.0.0' }, c: { version: '' }, d: { version: 'x' } }),
    [],
  )
  assert.deepEqual(warningsFor({ a: {}, b: { version: '0.31.0', state: 'off' } }), [])
})

test('versions are compared as numbers (374)', () => {
  const before: readonly [string, string, boolean][] = [
    ['0.9.6', '0.32.10', true],
    ['0.32.9', '0.32.10', true],
    ['0.32.10', '0.32.10', false],
    ['v0.32.10-rc1', '0.32.10', false],
    ['1.0.0', '0.32.10', false],
    ['0.33', '0.32.10', true],
  ]
  for (const [version, release, expected] of before)
    assert.equal(isBefore(version, release), expected, version)
})

test('equal copies that can do different things on one version are warned of (371)', () => {
  const chats = { capabilities: ['completion', 'tools'] }
  const [warning, ...rest] = warningsFor({
    a: chats,
    b: { capabilities: ['tools', 'completion'] },
    c: { capabilities: ['embedding'] },
  })
  assert.match(
    warning ?? '',
    /equal copies of m:latest can do different things.*completion, tools on a, b; embedding on c\..*pull the model again/,
  )
  assert.deepEqual(rest, [])
  assert.deepEqual(warningsFor({ a: chats, b: { capabilities: [], digest: 'another' } }), [])
  assert.deepEqual(warningsFor({ a: chats, b: { capabilities: [], version: '0.33.2' } }), [])
  assert.deepEqual(warningsFor({ a: chats, b: {} }), [], 'old versions do not tell')
})
