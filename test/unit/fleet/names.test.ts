import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { matchesGlob } from '../../../lib/fleet/documents/glob.ts'
import { canonicalName, isStoreName, matchesModel } from '../../../lib/fleet/documents/names.ts'
import { parseDuration } from '../../../lib/shared/duration.ts'

test('every spelling of a model name has one canonical form', () => {
  for (const spelling of [
    'llama3',
    'Llama3',
    ' llama3:latest ',
    'library/llama3',
    'registry.ollama.ai/library/LLAMA3:Latest',
    'llama3:local',
  ]) {
    assert.equal(canonicalName(spelling), 'llama3:latest', spelling)
  }
  for (const spelling of ['big:120b-cloud', 'Big:120B:Cloud', 'library/big:120b:cloud'])
    assert.equal(canonicalName(spelling), 'big:120b-cloud', spelling)
  assert.equal(canonicalName('big:cloud'), 'big:cloud')
  assert.equal(canonicalName('big:120b:local'), 'big:120b')
  assert.equal(canonicalName('me/My-Model:7B'), 'me/my-model:7b')
  assert.equal(canonicalName('host:5000/ns/m'), 'host:5000/ns/m:latest')
})

test('a name that Ollama would refuse is no model name', () => {
  for (const name of [
    '',
    ':',
    'a:',
    '/a',
    'a//b',
    '../etc/passwd',
    'a b',
    'a\nb',
    'a/b/c/d',
    'x'.repeat(81),
    'a:b:c',
    'ns.x/m',
    'a\u202eb',
    'a:local:cloud',
    'a:cloud:LOCAL',
    'a:8b-cloud:local',
    'a:local:local',
    'a:8b:cloud:cloud',
  ]) {
    assert.equal(canonicalName(name), null, JSON.stringify(name))
  }
})

test('canonical names are their own canonical form', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const once = canonicalName(text)
      if (once !== null) assert.equal(canonicalName(once), once)
    }),
  )
})

test('object names cannot leave their folder in the store', () => {
  for (const name of ['', '.', '..', 'a/b', '-a', 'a-', 'a b', 'x'.repeat(64), 'a\n'])
    assert.equal(isStoreName(name), false, name)
  for (const name of ['a', 'gpu-1', 'node.example', 'A_b']) assert.equal(isStoreName(name), true, name)
})

test('globs match as a regular expression with .* would', () => {
  const alphabet = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 })
  fc.assert(
    fc.property(alphabet, fc.string({ unit: fc.constantFrom('a', 'b', 'A'), maxLength: 8 }), (glob, text) => {
      assert.equal(matchesGlob(glob, text), new RegExp(`^${glob.replaceAll('*', '.*')}$`, 'i').test(text))
    }),
    { numRuns: 2000 },
  )
})

test('durations need a unit', () => {
  assert.equal(parseDuration('1h30m'), 5_400_000)
  assert.equal(parseDuration('1.5s'), 1500)
  for (const text of ['30', '', 's', '-5s', '5 s', '1d']) assert.equal(parseDuration(text), null, text)
})

const patterns: readonly [pattern: string, covers: readonly string[], leavesOut: readonly string[]][] = [
  ['assistant', ['assistant:latest'], ['assistant:7b', 'my-assistant:latest', 'assistant2:latest']],
  ['Assistant:Latest', ['assistant:latest'], ['assistant:7b']],
  ['library/assistant', ['assistant:latest'], ['me/assistant:latest']],
  ['https://registry.ollama.ai/library/assistant', ['assistant:latest'], []],
  ['me/assistant', ['me/assistant:latest'], ['assistant:latest']],
  ['host:5000/ns/m', ['host:5000/ns/m:latest'], ['m:latest']],
  ['assistant:7b', ['assistant:7b'], ['assistant:latest']],
  ['big:120b:cloud', ['big:120b-cloud'], ['big:120b']],
  ['assistant*', ['assistant:latest', 'assistant:7b', 'assistant-2:7b'], ['my-assistant:latest']],
  ['assistant:*', ['assistant:latest', 'assistant:7b'], ['assistant-2:7b']],
  ['*assistant', ['assistant:latest', 'my-assistant:latest', 'me/assistant:latest'], ['assistant:7b']],
  ['*-cloud', ['big:120b-cloud', 'to-cloud:latest'], ['big:cloud', 'to-cloud:7b']],
  ['*:latest', ['assistant:latest'], ['assistant:7b']],
  ['library/*', ['assistant:latest', 'assistant:7b'], ['me/assistant:latest', 'h.io/library/x:latest']],
  ['registry.ollama.ai/me/*', ['me/assistant:7b'], ['assistant:7b', 'h.io/me/assistant:7b']],
  ['hf.co/*', ['hf.co/me/assistant:latest'], ['assistant:latest']],
  ['*/assistant', ['me/assistant:latest'], ['assistant:latest', 'me/assistant:7b']],
  ['*', ['assistant:latest', 'h.io/a/b:c'], []],
  ['a b', [], ['a:latest', 'ab:latest']],
]
for (const [pattern, covers, leavesOut] of patterns)
  test(`the pattern "${pattern}" covers models as Ollama reads names without a tag (331)`, () => {
    for (const name of covers) assert.ok(matchesModel(pattern, name), name)
    for (const name of leavesOut) assert.ok(!matchesModel(pattern, name), name)
  })

test('a pattern without wildcards covers the model of that canonical name and no other (331)', () => {
  const name = fc.stringMatching(/^[a-z]{1,2}(:[a-z]{1,2})?$/)
  fc.assert(
    fc.property(name, name, (pattern, other) => {
      const asked = canonicalName(other) ?? ''
      assert.equal(matchesModel(pattern, asked), canonicalName(pattern) === asked)
    }),
  )
})
