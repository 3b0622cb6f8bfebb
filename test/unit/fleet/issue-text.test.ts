import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import type { z } from 'zod'
import { schemas } from '../../../lib/fleet/document-schemas.ts'
import { describeFaults } from '../../../lib/fleet/documents/contents.ts'
import { readDocument, readValue } from '../../../lib/fleet/documents/document.ts'

/** What an operator reads of a document, in one sentence. */
function said(text: string, schema: z.ZodType): string {
  const parsed = readDocument(text, schema)
  return parsed.ok ? 'valid' : describeFaults(parsed.faults)
}

const { config, nodes, routes, keys } = schemas
const url = 'url: http://10.0.0.1:11434'
const hash = `hash: ${'a'.repeat(64)}`

const faulty: readonly [kind: string, schema: z.ZodType, text: string, said: string][] = [
  [
    'text for a number',
    nodes,
    `${url}\nweight: heavy`,
    'line 2: weight: must be a number, such as 1, not the text "heavy"',
  ],
  ['a fraction', nodes, `${url}\nslots: 1.5`, 'line 2: slots: must be a whole number, such as 1, not 1.5'],
  ['too little', nodes, `${url}\nweight: -1`, 'line 2: weight: must be at least 0, not -1'],
  ['too much', nodes, `${url}\nweight: 1e9`, 'line 2: weight: must be at most 1000, not 1000000000'],
  ['no number', nodes, `${url}\nweight: .nan`, 'line 2: weight: must be a number, such as 1'],
  ['nothing', nodes, `${url}\nweight:`, 'line 2: weight: must be a number, such as 1, not empty'],
  ['a missing field', nodes, 'weight: 1', 'url: is required'],
  [
    'a misspelt word',
    nodes,
    `${url}\nstate: cordond`,
    'line 2: state: must be one of active, cordoned, off, not the text "cordond" (did you mean "cordoned"?)',
  ],
  [
    'a number for text',
    nodes,
    `${url}\nlabels: {zone: 5}`,
    'line 2: labels.zone: must be text, such as "5", not 5',
  ],
  [
    'a name that is too long',
    nodes,
    `${url}\nlabels: {${'z'.repeat(64)}: a}`,
    `line 2: labels.${'z'.repeat(64)}: the name must have at most 63 characters, not 64`,
  ],
  [
    'a list for a map',
    nodes,
    `${url}\nlabels: [a]`,
    'line 2: labels: must be a map, such as {NAME: VALUE}, not a list',
  ],
  [
    'one value for a list',
    config,
    'auth: {hosts: name}',
    'line 1: auth.hosts: must be a list, such as [name], not the text "name"',
  ],
  ['one number for a list', routes, 'fallback: 5', 'line 1: fallback: must be a list, such as [5], not 5'],
  ['an empty list', keys, `${hash}\nscopes: []`, 'line 2: scopes: must not be an empty list'],
  ['an empty name', routes, 'model: ""', 'line 1: model: must not be empty'],
  [
    'a list that is too long',
    routes,
    `fallback: [${'a,'.repeat(11)}]`,
    'line 1: fallback: must have at most 10 items, not 11',
  ],
  [
    'text for a truth value',
    config,
    'headers: {node: "yes"}',
    'line 1: headers.node: must be true or false, not this text',
  ],
  [
    'a day for a date',
    keys,
    `${hash}\nexpires: 2027-01-31`,
    'line 2: expires: must be a date with a time and an offset, such as 2027-01-31T00:00:00Z, not the text "2027-01-31"',
  ],
  [
    'words for a document',
    routes,
    'just some words',
    'line 1: must be a map of fields (match, model, fallback, nodes, options, class), such as {match: …}, not the text "just some words"',
  ],
  [
    'a word for fields',
    config,
    'queue: 30s',
    'line 1: queue: must be a map of fields (max_length, max_wait, shares), such as {max_length: …}, not the text "30s"',
  ],
]

suite('a faulty value is told with what the field must be, an example and what was found', () => {
  for (const [kind, schema, text, expected] of faulty)
    test(kind, () => assert.equal(said(text, schema), expected))
})

test('values that may be secrets are never repeated', () => {
  const token = 'canary-secret'
  for (const [schema, text] of [
    [nodes, `${url}\nheaders: ${token}`],
    [nodes, `${url}\nheaders: {authorization: [${token}]}`],
    [nodes, `${url}\nheaders: {authorization: 123456789}`],
    [nodes, `${url}\ntls: {ca: ${token}}`],
    [keys, `hash: ${token}`],
    [keys, 'hash: 123456789'],
  ] as const)
    assert.doesNotMatch(said(text, schema), /canary|123456789/)
})

test('a long value is cut', () => {
  assert.ok(said(`${url}\nweight: ${'x'.repeat(5000)}`, nodes).length < 150)
})

test('no text of the schema library is shown, for any document', () => {
  const raw = /Invalid |Too (small|big)|expected .*received|Unrecognized|undefined|\[object/
  const scalar = fc.oneof(fc.string({ maxLength: 5 }), fc.double(), fc.boolean(), fc.constant(null))
  const value = fc.oneof(
    scalar,
    fc.array(scalar, { maxLength: 3 }),
    fc.dictionary(fc.constantFrom('a', 'max', 'name', 'cidr'), scalar),
  )
  for (const [folder, schema] of Object.entries(schemas)) {
    const fields = Object.keys((schema as z.ZodObject).shape)
    const inner = fields.flatMap((field) => {
      const parsed = readValue({ [field]: { '?': 1 } }, schema)
      const [, list = ''] = parsed.ok
        ? []
        : (/known fields: (.*?)\)/.exec(describeFaults(parsed.faults)) ?? [])
      return list.split(', ').filter(Boolean)
    })
    const document = fc.dictionary(
      fc.constantFrom(...fields),
      fc.oneof(
        value,
        fc.dictionary(fc.constantFrom('a', ...inner), value),
        fc.array(fc.dictionary(fc.constantFrom('match', 'cidr', 'name', 'num_ctx', 'scopes'), value), {
          maxLength: 2,
        }),
      ),
    )
    fc.assert(
      fc.property(document, (given) => {
        const parsed = readValue(given, schema)
        const text = parsed.ok ? '' : describeFaults(parsed.faults).replaceAll(/"[^"]*"/g, '""')
        assert.doesNotMatch(text, raw, folder)
      }),
      { numRuns: 500 },
    )
  }
})
