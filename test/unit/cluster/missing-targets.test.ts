import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { isInventoryComplete, noteMissingTargets } from '../../../lib/cluster/leader/missing-targets.ts'
import { apiKeySchema } from '../../../lib/fleet/api-key.ts'
import { routeSchema } from '../../../lib/fleet/config.ts'
import { aliasesOf } from '../../../lib/fleet/models/aliases.ts'
import { KeyLayout } from '../../../lib/store/key-layout.ts'
import { aSnapshot } from '../../support/fleet.ts'

const places = new KeyLayout('default')
const hash = '0'.repeat(64)
const nodes = [
  { name: 'a', models: ['llama3:latest', 'qwen3:8b'], labels: { tier: 'gold' } },
  { name: 'b', models: ['llama3:latest'] },
]
/** What is said of one route, beside others. */
const notesOn = (route: object, others: Record<string, object> = {}) => {
  const routes = new Map(
    Object.entries({ ...others, r: route }).map(([name, spec]) => [name, routeSchema.parse(spec)]),
  )
  return noteMissingTargets(aSnapshot({ nodes, routes }), places).get(places.route('r')) ?? []
}

const said: readonly [string, object, readonly RegExp[]][] = [
  ['an exact name', { match: { model: 'llama3' }, nodes: { tier: 'gold' } }, []],
  ['any model', {}, []],
  ['an alias for a model', { match: { model: 'gpt-4o' }, model: 'llama3' }, []],
  [
    "another vendor's models",
    { match: { model: 'gpt-*' }, model: 'LLAMA3:latest', fallback: ['qwen3:8b'] },
    [],
  ],
  [
    'a name that no node has',
    { match: { model: 'lama3' }, nodes: { tier: 'gold' } },
    [/^match\.model "lama3" covers no model of any node and no alias; did you mean "llama3:latest"\?$/],
  ],
  [
    'a glob that covers nothing',
    { match: { model: 'mistral*' } },
    [/^match\.model "mistral\*" covers no model/],
  ],
  [
    'a model that no node has',
    { model: 'qwen3' },
    [/^no node has model "qwen3:latest"; did you mean "qwen3:8b"\?$/],
  ],
  [
    'models of which one is on no node',
    { model: 'llama3', fallback: ['qwen3:8b', 'b ad', 'gone:1b'] },
    [/^no node has model "b ad"$/, /^no node has model "gone:1b"$/],
  ],
  [
    'labels that no node has',
    { nodes: { tier: 'gold', zone: 'x' } },
    [/^nodes: no node has the labels tier=gold, zone=x/],
  ],
  [
    'labels of nodes that lack the model',
    { match: { model: 'qwen3:8b' }, nodes: { tier: 'silver' } },
    [/^nodes: no node has the labels tier=silver/],
  ],
]
suite('the verdict on a route', () => {
  for (const [what, route, expected] of said)
    test(`warns ${expected.length} times of ${what} (331, 332)`, () => {
      const notes = notesOn(route)
      assert.equal(notes.length, expected.length, notes.join('\n'))
      for (const [index, pattern] of expected.entries()) assert.match(notes[index] ?? '', pattern)
    })

  test('warns where the selected nodes lack a model that others have (331)', () => {
    const more = [...nodes, { name: 'c', models: ['llama3:latest'], labels: { tier: 'silver' } }]
    const routes = new Map([
      ['r', routeSchema.parse({ match: { model: 'qwen3:8b' }, nodes: { tier: 'silver' } })],
    ])
    assert.deepEqual(noteMissingTargets(aSnapshot({ nodes: more, routes }), places).get(places.route('r')), [
      'no node with the labels tier=silver has model "qwen3:8b"',
    ])
  })

  const never = /^never applies: route "a" comes first and matches all that it matches$/
  const gpt = (model: string, tenant?: string) => ({
    match: { model, ...(tenant && { tenant }) },
    model: 'llama3',
  })
  for (const [earlier, later] of [
    [gpt('helper'), gpt('Helper:latest')],
    [gpt('library/helper'), gpt('helper', 't')],
    [gpt('helper', 't'), gpt('helper', 't')],
    [gpt('*'), gpt('helper', 't')],
    [gpt('gpt-*'), gpt('GPT-4*')],
    [gpt('*-mini'), gpt('gpt-mini')],
    [{}, gpt('gpt-*')],
  ] as const)
    test(`warns of a route that never applies: ${JSON.stringify([earlier, later])} (331)`, () => {
      assert.match(notesOn(later, { a: earlier }).join('\n'), never)
    })

  for (const [earlier, later] of [
    [gpt('helper', 't'), gpt('helper')],
    [gpt('helper', 't'), gpt('helper', 'u')],
    [gpt('helper:1b'), gpt('helper')],
    [gpt('gpt-4*'), gpt('gpt-*')],
    [gpt('gpt-*'), gpt('*')],
  ] as const)
    test(`warns of no route that applies: ${JSON.stringify([earlier, later])} (331)`, () => {
      assert.deepEqual(notesOn(later, { a: earlier }), [])
    })

  test('warns of names that no request can ask for (331)', () => {
    for (const model of ['a b', 'm@sha256:abc', ':x', 'a b*', 'm:', ' '])
      assert.match(notesOn(gpt(model)).join(), /is no name that a request can ask for/, model)
    for (const model of ['gpt-4o', 'hf.co/Org/Repo:Q4_K_M', 'gpt-*', '*/x', 'registry:5000/a/b:c'])
      assert.deepEqual(notesOn(gpt(model)), [], model)
  })

  test('an alias is that of the route that applies (333)', () => {
    const routes = [
      { name: 'a', ...routeSchema.parse(gpt('helper')) },
      { name: 'b', ...routeSchema.parse({ match: { model: 'helper' }, model: 'qwen3:8b' }) },
    ]
    assert.deepEqual(aliasesOf(routes), [{ name: 'helper:latest', model: 'llama3:latest' }])
  })

  test('takes the alias of another route for a model, but not for one that can answer (331, 332)', () => {
    const alias = { match: { model: 'assistant' }, model: 'llama3' }
    assert.deepEqual(notesOn({ match: { model: 'assistant*' } }, { alias }), [])
    assert.equal(notesOn({ match: { model: 'x' }, model: 'assistant' }, { alias }).length, 1)
  })
})

test('the verdicts on keys and the config warn of what does not exist (331)', () => {
  const config = {
    routing: { unknown_paths: 'gone' },
    node_identity: { node: 'a' },
    management: { nodes: { tier: 'silver' } },
    models: [{ match: 'llama3' }, { match: 'lama*' }],
  }
  const keys = new Map([
    ['all', apiKeySchema.parse({ hash })],
    ['some', apiKeySchema.parse({ hash: '1'.repeat(64), models: ['llama3', 'qwen*', 'assistant', 'qwen'] })],
  ])
  const notes = noteMissingTargets(aSnapshot({ nodes, config, keys }), places)
  assert.deepEqual([...notes.keys()], [places.apiKey('some'), places.config])
  assert.deepEqual(notes.get(places.apiKey('some')), [
    'models "assistant" covers no model of any node and no alias',
    'models "qwen" covers no model of any node and no alias',
  ])
  assert.deepEqual(notes.get(places.config), [
    'routing.unknown_paths: there is no node "gone"',
    'management.nodes: no node has the labels tier=silver, so no new model can be pulled',
    'models.1.match "lama*" covers no model of any node and no alias',
  ])
})

test('unknown_paths: model names no node (374)', () => {
  const config = { routing: { unknown_paths: 'model' } }
  assert.deepEqual([...noteMissingTargets(aSnapshot({ nodes, config }), places)], [])
})

test('nothing is missing before the models of every node in service are known (332)', () => {
  const unseen = { name: 'c', health: 'unknown' as const }
  assert.equal(isInventoryComplete(aSnapshot({ nodes })), true)
  assert.equal(isInventoryComplete(aSnapshot({ nodes: [...nodes, unseen] })), false)
  assert.equal(isInventoryComplete(aSnapshot({ nodes: [...nodes, { ...unseen, state: 'off' }] })), true)
  assert.equal(isInventoryComplete(aSnapshot({ nodes: [] })), false)
})
