import assert from 'node:assert/strict'
import { test } from 'node:test'
import { noteOlderCopies } from '../../../lib/cluster/leader/older-copies.ts'
import { buildSnapshot } from '../../../lib/fleet/snapshot.ts'
import { KeyLayout } from '../../../lib/store/key-layout.ts'
import { aDocuments } from '../../support/fleet.ts'

const keys = new KeyLayout('default')

/** Nodes with models, each of a digest that is also its age: "2" is newer than "1". */
function aFleet(models: Readonly<Record<string, Readonly<Record<string, string>>>>) {
  const documents = aDocuments({ nodes: Object.keys(models).map((name) => ({ name })) })
  const statuses = [...documents.statuses].map(([name, status]) => {
    const copies = Object.entries(models[name] ?? {}).map(([model, digest]) => ({
      name: model,
      digest,
      size: 1,
      modified_at: `2026-01-0${digest}T00:00:00Z`,
      details: {},
    }))
    return [name, { ...status, models: copies }] as const
  })
  return buildSnapshot({ ...documents, statuses: new Map(statuses) })
}

test('a model is older on the nodes whose digest is not that of the newest', () => {
  const { models } = aFleet({
    a: { 'm:1b': '1', 'same:1b': '1' },
    b: { 'm:1b': '2', 'same:1b': '1' },
    c: { 'm:1b': '1', 'alone:1b': '1' },
    d: { 'm:1b': '2' },
  })
  assert.deepEqual(
    [...models.values()].map(({ name, olderOn }) => [name, olderOn]),
    [
      ['alone:1b', []],
      ['m:1b', ['a', 'c']],
      ['same:1b', []],
    ],
  )
})

test('each node with older copies gets one note, which names the first ten', () => {
  const names = Array.from({ length: 13 }, (_, n) => `m${10 + n}:1b`)
  const all = (digest: string) => Object.fromEntries(names.map((name) => [name, digest]))
  const notes = noteOlderCopies(aFleet({ a: all('1'), b: all('2'), c: { 'm10:1b': '1' } }), keys)
  const text = (models: string) =>
    `other nodes have newer copies of ${models}: until this node has the same, responses depend on the node`
  assert.deepEqual(
    [...notes],
    [
      [keys.node('a'), [text(`${names.slice(0, 10).join(', ')} and 3 more`)]],
      [keys.node('c'), [text('m10:1b')]],
    ],
  )
})
