import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import {
  allDocuments,
  inForce,
  judge,
  noDocuments,
  type StoredDocuments,
  verdictOf,
} from '../../../lib/cluster/config/stored-documents.ts'
import { planVerdicts } from '../../../lib/cluster/config/verdicts.ts'
import { readStatuses, refusalOf } from '../../../lib/cluster/probing/stored-status.ts'
import { defaultConfig } from '../../../lib/fleet/config.ts'
import { describeFaults } from '../../../lib/fleet/documents/contents.ts'
import type { NodeStatus } from '../../../lib/fleet/node.ts'
import { KeyLayout } from '../../../lib/store/key-layout.ts'
import type { Entry, Operation } from '../../../lib/store/store.ts'

const keys = new KeyLayout('test')

/** A store that only remembers, and the judgement of one instance that follows it. */
class Shelf {
  readonly entries = new Map<string, Entry>()
  documents: StoredDocuments = noDocuments
  #revision: bigint

  /** @param revision of what was put before */
  constructor(revision = 0n) {
    this.#revision = revision
  }

  put(key: string, value: string): this {
    const modified = ++this.#revision
    this.entries.set(key, {
      key,
      value,
      created: this.entries.get(key)?.created ?? modified,
      modified,
      lease: null,
    })
    return this
  }

  delete(key: string): this {
    this.#revision++
    this.entries.delete(key)
    return this
  }

  judge(): this {
    this.documents = judge([...this.entries.values()], keys, this.documents)
    return this
  }

  /** Carries out what a leader planned. */
  apply(operations: readonly Operation[]): void {
    for (const operation of operations) {
      if (operation.type === 'put') this.put(operation.key, operation.value)
      else this.delete(operation.key)
    }
  }

  url(node: string): string | undefined {
    return inForce(this.documents.nodes).get(node)?.url
  }

  faults(key: string) {
    return allDocuments(this.documents).find((object) => object.key === key)?.faults
  }
}

const a = keys.node('a')
const b = keys.node('b')

test('twelve kinds of typo each keep the last good version and name the fault', () => {
  const typos: readonly [text: string, fault: RegExp][] = [
    ['', /empty/],
    ['url: http://10.0.0.1:11434\nwieght: 2', /not a known field/],
    ['url: http://10.0.0.1:11434\nweight: heavy', /must be a number/],
    ['url: http://10.0.0.1:11434\nweight: -1', /must be at least 0/],
    ['url: http://10.0.0.1:11434\nslots: 1.5', /whole number/],
    ['url: 10.0.0.1:11434', /not a URL/],
    ['url: ftp://10.0.0.1', /scheme "ftp"/],
    ['url: http://10.0.0.1:11434/api', /must end before "\/api"/],
    ['url: http://10.0.0.1:11434/?a=b', /no query/],
    ['url: http://10.0.0.1:11434\nurl: http://10.0.0.2:11434', /occurs twice/],
    ['url: [http://10.0.0.1:11434', /has a \[ without its \]/],
    ['url: http://10.0.0.1:11434\nstate: drained', /active/],
    [`url: http://10.0.0.1:11434\nlabels: {a: ${'x'.repeat(300 * 1024)}}`, /limit/],
    ['\u0000\u0001\ufffd', /./],
  ]
  for (const [text, fault] of typos) {
    const shelf = new Shelf()
      .put(a, 'url: http://10.0.0.9:11434')
      .put(b, 'url: http://10.0.0.8:11434')
      .judge()
    shelf.put(a, text).judge()
    assert.equal(shelf.url('a'), 'http://10.0.0.9:11434', text.slice(0, 60))
    assert.equal(shelf.url('b'), 'http://10.0.0.8:11434', 'the neighbour is untouched')
    assert.match(describeFaults(shelf.faults(a) ?? []), fault)
    shelf.put(a, 'url: http://10.0.0.7:11434').judge()
    assert.equal(shelf.url('a'), 'http://10.0.0.7:11434', 'the correction is in force')
    assert.deepEqual(shelf.faults(a), [])
  }
})

test('an object that never was valid is in force nowhere and spoils no other', () => {
  const shelf = new Shelf().put(a, 'url: nonsense').put(b, 'url: http://10.0.0.8:11434').judge()
  assert.deepEqual([...inForce(shelf.documents.nodes).keys()], ['b'])
})

test('a deleted object is gone, and its past is too when it is made again', () => {
  const shelf = new Shelf().put(a, 'url: http://10.0.0.1:11434').judge()
  shelf.delete(a).judge()
  assert.equal(shelf.url('a'), undefined)
  shelf.put(a, 'url: http://10.0.0.1:11434').judge().delete(a).put(a, 'url: nonsense').judge()
  assert.equal(shelf.url('a'), undefined, 'deleted and made again between two looks')
})

test('of two nodes with one URL the one created later is at fault (156)', () => {
  const shelf = new Shelf().put(b, 'url: http://10.0.0.1:11434').put(a, 'url: http://10.0.0.1:11434').judge()
  assert.equal(shelf.url('b'), 'http://10.0.0.1:11434')
  assert.equal(shelf.url('a'), undefined)
  assert.match(describeFaults(shelf.faults(a) ?? []), /already the URL of node "b"/)
  assert.deepEqual(shelf.faults(b), [])
  shelf.delete(b).judge()
  assert.equal(shelf.url('a'), 'http://10.0.0.1:11434', 'in force as soon as the other is gone')
  assert.deepEqual(shelf.faults(a), [])
})

test('of two nodes whose URLs lead to one server the one created later is at fault (156, 321)', () => {
  const shelf = new Shelf()
    .put(b, 'url: http://localhost:11434')
    .put(a, 'url: http://127.0.0.1:11434/')
    .judge()
  assert.equal(shelf.url('a'), undefined)
  assert.match(
    describeFaults(shelf.faults(a) ?? []),
    /leads to the same server as http:\/\/localhost:11434, the URL of node "b"/,
  )
})

test('a node edited to the URL of an older one keeps its last good version', () => {
  const shelf = new Shelf().put(a, 'url: http://10.0.0.1:11434').put(b, 'url: http://10.0.0.2:11434').judge()
  shelf.put(b, 'url: http://10.0.0.1:11434').judge().judge()
  assert.equal(shelf.url('b'), 'http://10.0.0.2:11434')
  assert.equal(shelf.faults(b)?.length, 1)
  shelf.put(a, 'url: http://10.0.0.2:11434').judge()
  assert.equal(shelf.url('a'), 'http://10.0.0.2:11434')
  assert.equal(shelf.url('b'), 'http://10.0.0.1:11434', 'the two have changed places')
  assert.deepEqual([shelf.faults(a), shelf.faults(b)], [[], []])
})

test('an older node edited to the URL of a later one takes it', () => {
  const shelf = new Shelf().put(a, 'url: http://10.0.0.1:11434').put(b, 'url: http://10.0.0.2:11434').judge()
  shelf.put(a, 'url: http://10.0.0.2:11434').judge()
  assert.equal(shelf.url('a'), 'http://10.0.0.2:11434')
  assert.equal(shelf.url('b'), undefined)
  assert.equal(shelf.faults(b)?.length, 1)
})

test('a broken config leaves the last good one, then the defaults once it is deleted', () => {
  const shelf = new Shelf().put(keys.config, 'routing: {attempts: 5}').judge()
  shelf.put(keys.config, 'routing: {attempts: many}').judge()
  assert.equal(inForce(shelf.documents.config).get('')?.routing.attempts, 5)
  shelf.delete(keys.config).judge()
  assert.equal(inForce(shelf.documents.config).get('') ?? defaultConfig, defaultConfig)
})

test('a key with a name that no object may have is a fault, not an object', () => {
  const bad = [
    `${keys.root}nodes/`,
    `${keys.root}nodes/a/b`,
    `${keys.root}nodes/-x`,
    `${keys.root}nodes/${'x'.repeat(64)}`,
  ]
  const shelf = new Shelf()
  for (const key of bad) shelf.put(key, 'url: http://10.0.0.1:11434')
  shelf.put(`${keys.root}config/extra`, 'routing: {attempts: 5}').judge()
  assert.equal(inForce(shelf.documents.nodes).size, 0)
  assert.equal(inForce(shelf.documents.config).get(''), undefined)
  for (const key of [...bad, `${keys.root}config/extra`]) assert.equal(shelf.faults(key)?.length, 1, key)
})

suite('a key that no instance reads gets a verdict that says what may have been meant', () => {
  for (const [path, meant] of [
    ['confg', 'config'],
    ['config.yaml', 'config'],
    ['config/', 'config'],
    ['route/chat', 'routes/chat'],
    ['Routes/chat', 'routes/chat'],
    ['nodes2/a', 'nodes/a'],
    ['/nodes/a', 'nodes/a'],
    ['node/a/b', 'nodes/a-b'],
    ['nodes', 'nodes/NAME'],
    ['nodes/', 'nodes/NAME'],
    ['nodes/a/b', 'nodes/a-b'],
    ['nodes/a/', 'nodes/a'],
    ['key', 'keys/ID'],
    ['banana/split', null],
  ] as const)
    test(path, () => {
      const shelf = new Shelf()
        .put(a, 'url: http://10.0.0.1:11434')
        .put(keys.root + path, 'x: 1')
        .judge()
      const faults = describeFaults(shelf.faults(keys.root + path) ?? [])
      assert.match(faults, /is not a key that llamero reads|cannot be used: a name is/)
      assert.match(faults, /llamero reads config, nodes\/NAME, routes\/NAME, keys\/ID/)
      assert.equal(/did you mean "([^"]*)"/.exec(faults)?.[1] ?? null, meant)
      assert.equal(shelf.url('a'), 'http://10.0.0.1:11434')
      assert.equal(inForce(shelf.documents.config).size, 0)
      assert.deepEqual([...inForce(shelf.documents.nodes).keys()], ['a'])
    })
})

test('what instances write, of whatever version, and what lives under a lease is no slip of an operator', () => {
  const shelf = new Shelf()
  for (const path of ['state/new/x', 'meta/new', 'status/chat', 'instances/a', 'history/7', 'leader'])
    shelf.put(keys.root + path, '{}')
  shelf.put(`${keys.root}nwe/x`, '{}')
  shelf.entries.set('leased', { ...(shelf.entries.get(`${keys.root}nwe/x`) as Entry), lease: '7' })
  shelf.delete(`${keys.root}nwe/x`).judge()
  assert.deepEqual(allDocuments(shelf.documents), [])
})

test('of a thousand unknown keys the first twenty get a verdict, with the number of the others, in any order of writing', () => {
  const names = Array.from({ length: 1000 }, (_, n) => `junk/${String(n).padStart(4, '0')}`)
  for (const order of [names, names.toReversed()]) {
    const shelf = new Shelf()
    for (const name of order) shelf.put(keys.root + name, 'x')
    const told = allDocuments(shelf.judge().documents)
    assert.deepEqual(
      told.map(({ key }) => key.slice(keys.root.length)),
      names.slice(0, 20),
    )
    assert.match(describeFaults(told.at(-1)?.faults ?? []), /; 980 more keys are not read either$/)
  }
})

test('the verdict on an unknown key goes with the key', () => {
  const [slip, right] = [`${keys.root}confg`, keys.config]
  const shelf = new Shelf().put(slip, 'routing: {attempts: 5}').judge()
  const plan = () =>
    planVerdicts({
      keys,
      fence: 7n,
      documents: shelf.documents,
      notes: new Map(),
      areComplete: true,
      entries: shelf.entries,
    })
  shelf.apply(plan())
  const verdict = JSON.parse(shelf.entries.get(keys.verdict(slip))?.value ?? '{}')
  assert.deepEqual([verdict.ok, verdict.active], [false, null])
  shelf.judge()
  assert.deepEqual(plan(), [])
  shelf.delete(slip).put(right, 'routing: {attempts: 5}').judge()
  const [put, removal] = plan()
  assert.equal(put?.key, keys.verdict(right))
  assert.deepEqual(removal, { type: 'delete', key: keys.verdict(slip) })
})

test('a text of a thousand faults is described by its first ones', () => {
  const fields = Array.from({ length: 400 }, (_, index) => `bad${index}: 1`)
  const shelf = new Shelf().put(a, fields.join('\n')).judge()
  assert.equal(shelf.faults(a)?.length, 20)
})

test('each document gets a verdict, only when it changes, and none outlives its document', () => {
  const shelf = new Shelf()
    .put(a, 'url: http://10.0.0.1:11434')
    .put(keys.route('chat'), 'match: {modle: x}')
    .judge()
  const notes = new Map<string, string[]>()
  const plan = (fence: bigint) =>
    planVerdicts({
      keys,
      fence,
      documents: shelf.documents,
      notes,
      areComplete: true,
      entries: shelf.entries,
    })
  const first = plan(7n)
  assert.deepEqual(
    first.map(({ key }) => key),
    [keys.verdict(a), keys.verdict(keys.route('chat'))],
  )
  shelf.apply(first)
  const verdict = JSON.parse(shelf.entries.get(keys.verdict(keys.route('chat')))?.value ?? '')
  assert.deepEqual(verdict, {
    fence: '7',
    ok: false,
    errors: [
      { path: 'match.modle', line: 1, message: 'is not a known field', hint: 'did you mean "model"?' },
    ],
    stored: '2',
    active: null,
  })
  assert.deepEqual(plan(7n), [], 'nothing changed')
  assert.deepEqual(plan(9n), [], 'another leader has nothing to add')
  shelf.put(keys.verdict(a), 'not a verdict').put(`${keys.root}status/other/x`, 'of somebody else')
  assert.deepEqual(
    plan(7n).map(({ key }) => key),
    [keys.verdict(a)],
  )
  shelf.apply(plan(7n))
  notes.set(a, ['it is old']).set(keys.node('gone'), ['it is gone'])
  const noted = plan(7n)
  assert.deepEqual(
    noted.map(({ key }) => key),
    [keys.verdict(a)],
  )
  shelf.apply(noted)
  assert.deepEqual(JSON.parse(shelf.entries.get(keys.verdict(a))?.value ?? '').warnings, ['it is old'])
  assert.deepEqual(plan(7n), [], 'the note is there')
  notes.clear()
  shelf.apply(plan(7n))
  assert.equal(JSON.parse(shelf.entries.get(keys.verdict(a))?.value ?? '').warnings, undefined)
  shelf.delete(a).judge()
  assert.deepEqual(plan(7n), [{ type: 'delete', key: keys.verdict(a) }])
})

test('while not all is known, a verdict keeps its warnings until its document changes (332)', () => {
  const shelf = new Shelf().put(a, 'url: http://10.0.0.1:11434').judge()
  const plan = (warnings: string[], areComplete: boolean) => {
    const notes = new Map([[a, warnings]])
    return planVerdicts({
      keys,
      fence: 7n,
      documents: shelf.documents,
      notes,
      areComplete,
      entries: shelf.entries,
    })
  }
  const warnings = () => JSON.parse(shelf.entries.get(keys.verdict(a))?.value ?? '').warnings
  shelf.apply(plan(['the first'], true))
  assert.deepEqual(plan([], false), [])
  assert.deepEqual(plan(['the first'], false), [])
  shelf.apply(plan(['the second'], false))
  assert.deepEqual(warnings(), ['the second', 'the first'])
  shelf.put(a, 'url: http://10.0.0.2:11434').judge().apply(plan([], false))
  assert.equal(warnings(), undefined)
})

test('a verdict tells the version in force next to the one stored', () => {
  const shelf = new Shelf().put(a, 'url: http://10.0.0.1:11434').judge().put(a, 'url: nonsense').judge()
  const { ok, stored, active } = verdictOf(shelf.documents.nodes.get('a') as never)
  assert.deepEqual({ ok, stored, active }, { ok: false, stored: '2', active: '1' })
})

const status: NodeStatus = {
  fence: '120',
  health: 'up',
  reason: 'the first probe was answered',
  since: '2026-01-01T00:00:00Z',
  version: '0.12.6',
  models: [],
  loaded: [],
  weight: 1,
}

test('a status of a former leader, or one that cannot be read, does not replace a newer one', () => {
  const shelf = new Shelf(200n)
  const read = (previous = new Map()) =>
    readStatuses(new Map([['a', shelf.entries.get('state') as Entry]]), previous)
  shelf.put('state', JSON.stringify(status))
  const first = read()
  assert.deepEqual(first.get('a')?.status, status)
  for (const late of [{ ...status, fence: '119', health: 'down' }, { ...status, models: 7 }, null]) {
    shelf.put('state', JSON.stringify(late))
    assert.deepEqual(read(first as Map<string, never>).get('a')?.status, status)
  }
  shelf.put('state', '{')
  assert.deepEqual(read(first as Map<string, never>).get('a')?.status, status)
  shelf.put('state', JSON.stringify({ ...status, fence: '121' }))
  assert.equal(read(first as Map<string, never>).get('a')?.status?.fence, '121')
  shelf.delete('state').put('state', JSON.stringify({ ...status, fence: '3' }))
  assert.equal(read(first as Map<string, never>).get('a')?.status?.fence, '3', 'a key made again begins anew')
})

test('a status under a fence above its own revision is refused, and does not outrank what the leader writes next (307)', () => {
  for (const absurd of ['201', '99999999999999999999']) {
    const shelf = new Shelf(199n)
    const read = (previous: ReturnType<typeof readStatuses> = new Map()) =>
      readStatuses(new Map([['a', shelf.entries.get('state') as Entry]]), previous)
    shelf.put('state', JSON.stringify({ ...status, fence: absurd, health: 'down' }))
    const first = read()
    assert.equal(first.get('a')?.status, null)
    assert.match(
      refusalOf(shelf.entries.get('state') as Entry) ?? '',
      new RegExp(`${absurd} is above its own revision 200`),
    )
    shelf.put('state', JSON.stringify(status))
    assert.deepEqual(read(first).get('a')?.status, status)
    assert.equal(refusalOf(shelf.entries.get('state') as Entry), null)
  }
})

test('a status counts when its fence is not lower than that of the one before, as a number (307)', () => {
  const shelf = new Shelf(199n)
  let seen: ReturnType<typeof readStatuses> = new Map()
  const fenceAfter = (fence: string) => {
    shelf.put('state', JSON.stringify({ ...status, fence }))
    seen = readStatuses(new Map([['a', shelf.entries.get('state') as Entry]]), seen)
    return seen.get('a')?.status?.fence
  }
  assert.deepEqual(['9', '10', '9', '100', '99'].map(fenceAfter), ['9', '10', '10', '100', '100'])
})
