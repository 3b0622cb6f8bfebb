import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { NodeStatus } from '../../../lib/fleet/node.ts'
import { buildSnapshot } from '../../../lib/fleet/snapshot.ts'
import { FleetWarnings } from '../../../lib/fleet/warnings.ts'
import { isBefore } from '../../../lib/shared/versions.ts'
import { longestTurnMs } from '../../support/cpu.ts'
import { aDocuments } from '../../support/fleet.ts'

interface Sketch {
  readonly version?: string
  readonly digest?: string
  readonly capabilities?: readonly string[] | undefined
  readonly state?: 'active' | 'off'
}

type Sketches = Readonly<Record<string, Sketch>>

/** What is said of nodes of these versions, whose only model can do these things. */
function warningsFor(sketches: Sketches): Promise<readonly string[]> {
  return new FleetWarnings().of(nodesOf(sketches))
}

function nodesOf(sketches: Sketches) {
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
  return buildSnapshot({ ...documents, statuses }).nodes
}

test('versions that answer differently cause a warning that names the older nodes (374)', async () => {
  const [warning, ...rest] = await warningsFor({
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

test('versions on one side of a change, unknown versions and nodes that are off cause no warning (374)', async () => {
  assert.deepEqual(await warningsFor({ a: { version: '0.33.1' }, b: { version: '0.32.10-rc0' } }), [])
  assert.deepEqual(await warningsFor({ a: { version: '0.32.9' }, b: { version: '0.31.0' } }), [])
  assert.deepEqual(
    await warningsFor({ a: {}, b: { version: '0.0.0' }, c: { version: '' }, d: { version: 'x' } }),
    [],
  )
  assert.deepEqual(await warningsFor({ a: {}, b: { version: '0.31.0', state: 'off' } }), [])
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

test('equal copies with different capabilities on one version cause a warning (371)', async () => {
  const chats = { capabilities: ['completion', 'tools'] }
  const [warning, ...rest] = await warningsFor({
    a: chats,
    b: { capabilities: ['tools', 'completion'] },
    c: { capabilities: ['embedding'] },
  })
  assert.match(
    warning ?? '',
    /equal copies of m:latest can do different things.*completion, tools on a, b; embedding on c\..*pull the model again/,
  )
  assert.deepEqual(rest, [])
  assert.deepEqual(await warningsFor({ a: chats, b: { capabilities: [], digest: 'another' } }), [])
  assert.deepEqual(await warningsFor({ a: chats, b: { capabilities: [], version: '0.33.2' } }), [])
  assert.deepEqual(await warningsFor({ a: chats, b: {} }), [], 'old versions do not tell')
})

test('a node that changes only its version is counted under the new version (371)', async () => {
  const warnings = new FleetWarnings()
  const nodes = nodesOf({ a: { capabilities: ['tools'] }, b: { capabilities: [] } })
  assert.equal((await warnings.of(nodes)).length, 1)
  assert.equal(await warnings.of(nodes), await warnings.of(nodes), 'it is not worked out again')
  const [a, b] = [nodes.get('a'), nodes.get('b')]
  assert(a && b?.status)
  const upgraded = { ...b, status: { ...b.status, version: '0.33.2' } }
  const after = await warnings.of(new Map([a, upgraded].map((node) => [node.name, node])))
  assert.deepEqual(after, [])
})

test('warnings of copies follow the nodes, as if each time were the first (371)', async () => {
  const capabilities = fc.constantFrom([], ['tools'], ['tools', 'vision'], ['vision', 'tools'], undefined)
  const sketch = fc.record({
    version: fc.constantFrom('0.33.1', '0.33.2'),
    digest: fc.constantFrom('d', 'e'),
    capabilities,
    state: fc.constantFrom('active' as const, 'off' as const),
  })
  const fleet = fc.dictionary(fc.constantFrom('a', 'b', 'c'), sketch, { noNullPrototype: true })
  await fc.assert(
    fc.asyncProperty(fc.array(fleet, { maxLength: 5 }), async (fleets) => {
      const warnings = new FleetWarnings()
      let told: readonly string[] = []
      // All at once, as requests come.
      await Promise.all(fleets.map(async (each) => (told = await warnings.of(nodesOf(each)))))
      const expected = fleets.length === 0 ? [] : await warningsFor(fleets.at(-1) ?? {})
      assert.deepEqual(told, expected)
    }),
    { numRuns: 50 },
  )
})

test('no turn of the event loop is long while 1,000 nodes with 100 models are checked (374)', async () => {
  const documents = aDocuments({ nodes: Array.from({ length: 1000 }, (_, n) => ({ name: `n${n}` })) })
  const models = (status: NodeStatus, list: readonly string[]) =>
    Array.from({ length: 100 }, (_, nth) =>
      status.models.map((model) => ({
        ...model,
        name: `m${nth}:1b`,
        digest: `${nth}`,
        capabilities: [...list],
      })),
    ).flat()
  for (const differ of [false, true]) {
    const statuses = new Map(
      [...documents.statuses].map(([name, status], n): [string, NodeStatus] => [
        name,
        {
          ...status,
          version: differ ? `0.32.${n % 10}` : '0.33.1',
          models: models(status, differ && n % 3 === 0 ? ['tools'] : ['completion', 'tools', 'vision']),
        },
      ]),
    )
    const { nodes } = buildSnapshot({ ...documents, statuses })
    const longest = await longestTurnMs(() => new FleetWarnings().of(nodes), { enough: 15 })
    assert(longest <= 20, `${longest.toFixed(1)} ms`)
    if (!differ) continue
    const warnings = new FleetWarnings()
    const alike = new Map([...nodes].filter(([name]) => Number(name.slice(1)) % 3 !== 0))
    const [told, after] = await Promise.all([nodes, alike].map((each) => warnings.of(each)))
    assert.deepEqual(after, await new FleetWarnings().of(alike), 'asked twice at once')
    assert.equal(told?.filter((text) => text.startsWith('equal copies')).length, 5)
    assert.match(told?.at(-1) ?? '', /^95 more models differ/)
  }
})
