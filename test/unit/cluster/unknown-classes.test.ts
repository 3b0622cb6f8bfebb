import assert from 'node:assert/strict'
import { test } from 'node:test'
import { noteUnknownClasses } from '../../../lib/cluster/leader/unknown-classes.ts'
import { apiKeySchema } from '../../../lib/fleet/api-key.ts'
import { configSchema, defaultConfig, routeSchema } from '../../../lib/fleet/config.ts'
import { writtenConfig } from '../../../lib/fleet/document-schemas.ts'
import { describeFaults } from '../../../lib/fleet/documents/contents.ts'
import { readDocument } from '../../../lib/fleet/documents/document.ts'
import { classOf } from '../../../lib/gateway/admission/resolve-model.ts'
import { KeyLayout } from '../../../lib/store/key-layout.ts'
import { aSnapshot } from '../../support/fleet.ts'

test('there are three classes where the config names none, and each may have a longest wait of its own', () => {
  assert.deepEqual(
    defaultConfig.classes.map(({ name }) => name),
    ['interactive', 'default', 'batch'],
  )
  const text = 'classes: [{name: default}, {name: nightly, max_wait: 1h}]'
  const read = readDocument(text, configSchema)
  assert.ok(read.ok)
  assert.deepEqual(read.value.classes, [{ name: 'default' }, { name: 'nightly', max_wait: 3_600_000 }])
  assert.deepEqual(writtenConfig(read.value).classes, [
    { name: 'default' },
    { name: 'nightly', max_wait: '1h' },
  ])
})

const faulty: readonly [fault: string, text: string, said: RegExp][] = [
  [
    'a name twice',
    'classes:\n  - name: default\n  - name: batch\n  - name: batch\n',
    /^line 4: classes\.2\.name: another class is named "batch" already$/,
  ],
  ['no "default"', 'classes:\n  - name: batch\n', /^line 2: classes: one class must be named "default"/],
  ['none at all', 'classes: []\n', /classes: one class must be named "default"/],
  [
    'a name that is none',
    'classes: [{name: default}, {name: "a b"}]',
    /classes\.1\.name: a name is 1-63 letters/,
  ],
  [
    'a wait without its unit',
    'classes: [{name: default, max_wait: 5}]',
    /classes\.0\.max_wait: must be a duration/,
  ],
  [
    'a misspelt field',
    'classes: [{name: default, max_wiat: 5s}]',
    /max_wiat: is not .*did you mean "max_wait"/,
  ],
]
for (const [fault, text, said] of faulty) {
  test(`classes with a fault (${fault}) are refused, and the line is named`, () => {
    const read = readDocument(text, configSchema)
    assert.ok(!read.ok)
    assert.match(describeFaults(read.faults), said)
  })
}

const route = (name: string) => ({ ...routeSchema.parse({ class: name }), name: 'r' })
const hash = '0'.repeat(64)

test("a request is of its route's class, else of its key's, else of the default", () => {
  const snapshot = aSnapshot()
  assert.equal(classOf(route('batch'), 'interactive', snapshot), 'batch')
  assert.equal(classOf(null, 'interactive', snapshot), 'interactive')
  assert.equal(classOf(null, undefined, snapshot), 'default')
  assert.equal(classOf(route('none'), 'interactive', snapshot), 'default', 'a class that is not there')
})

test('routes and keys of a class that is not there are in force, and their verdicts warn', () => {
  const keys = new KeyLayout('default')
  const routes = new Map(
    ['batch', 'batsh', 'none'].map((name) => [name, routeSchema.parse({ class: name })] as const),
  )
  const apiKeys = new Map([['ci', apiKeySchema.parse({ hash, class: 'none' })]])
  const sketch = { routes: routes.set('silent', routeSchema.parse({})), keys: apiKeys }
  const text = (name: string, hint: string) =>
    `class "${name}" is not among the classes of the config, so "default" is in force instead; ${hint}`
  assert.deepEqual(
    [...noteUnknownClasses(aSnapshot(sketch), keys)],
    [
      [keys.route('batsh'), [text('batsh', 'did you mean "batch"?')]],
      [keys.route('none'), [text('none', 'there are interactive, default, batch')]],
      [keys.apiKey('ci'), [text('none', 'there are interactive, default, batch')]],
    ],
  )
  const config = { classes: ['default', 'none', 'batch', 'batsh'].map((name) => ({ name })) }
  assert.equal(noteUnknownClasses(aSnapshot({ ...sketch, config }), keys).size, 0)
})
