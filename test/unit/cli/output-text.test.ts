import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parse } from 'yaml'
import { jsonText, yamlText } from '../../../lib/cli/output-text.ts'

/** As seen in names and error texts: an escape sequence, its 8-bit form, overrides of direction, a tag, a line separator. */
const nasty = [
  '\u001b[31mred',
  '\u009b2J',
  '\u202egnp.exe',
  '\u2066x\u2069',
  '\u{e0041}',
  'a\u2028b',
  '\u007f',
  '\rover',
]
const unsafe = /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

test('JSON and YAML for a terminal contain no control characters in values and keys, and keep their meaning (351)', () => {
  for (const text of nasty) {
    const document = { name: text, list: [text, { [text]: text }], [`key ${text}`]: 1 }
    for (const written of [jsonText(document), jsonText(document, 2)]) {
      assert.doesNotMatch(written, unsafe)
      assert.deepEqual(JSON.parse(written), document)
    }
    const yaml = yamlText(document)
    assert.doesNotMatch(yaml, unsafe)
    assert.deepEqual(parse(yaml), document)
  }
})

test('any document is printed without control characters (351)', () => {
  const piece = fc.oneof(
    fc.constantFrom(...nasty, '\n', '\t', ': ', '# ', '- '),
    fc.string({ unit: 'binary', maxLength: 5 }),
  )
  const text = fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join('').toWellFormed())
  fc.assert(
    fc.property(
      fc.dictionary(text, fc.oneof(text, fc.array(text), fc.integer(), fc.constant(null))),
      (document) => {
        const plain = JSON.parse(JSON.stringify(document))
        assert.doesNotMatch(yamlText(plain), unsafe)
        assert.deepEqual(parse(yamlText(plain)), plain)
        assert.doesNotMatch(jsonText(plain, 2), unsafe)
        assert.deepEqual(JSON.parse(jsonText(plain, 2)), plain)
      },
    ),
  )
})

test('text without control characters is printed unchanged (351)', () => {
  const document = { name: 'llama3:8b', note: 'two\nlines\n', smile: '🦙 é' }
  assert.equal(jsonText(document), JSON.stringify(document))
  assert.equal(yamlText(document), 'name: llama3:8b\nnote: |\n  two\n  lines\nsmile: 🦙 é\n')
})
