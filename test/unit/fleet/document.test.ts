import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { configSchema, defaultConfig } from '../../../lib/fleet/config.ts'
import { describeFaults } from '../../../lib/fleet/documents/contents.ts'
import { readDocument } from '../../../lib/fleet/documents/document.ts'
import { nodeSchema } from '../../../lib/fleet/node.ts'

const faults = (text: string) => {
  const parsed = readDocument(text, configSchema)
  assert(!parsed.ok, 'expected faults')
  return parsed.faults
}

test('an empty object is a whole configuration', () => {
  assert.deepEqual(readDocument('{}', configSchema), { ok: true, value: defaultConfig })
})

test('YAML and JSON mean the same, with units', () => {
  const yaml = readDocument('queue:\n  max_wait: 1m30s # patience\n', configSchema)
  assert.deepEqual(yaml, readDocument('{"queue":{"max_wait":"90s"}}', configSchema))
  assert(yaml.ok)
  assert.equal(yaml.value.queue.max_wait, 90_000)
})

test('an unknown field is named with its line and the field that was meant', () => {
  const [fault] = faults('queue:\n  max_length: 5\n  max_wiat: 10s\n')
  assert.deepEqual(fault, {
    path: 'queue.max_wiat',
    line: 3,
    message: 'is not a known field',
    hint: 'did you mean "max_wait"?',
  })
})

test('an unknown field near to none is answered with the known ones', () => {
  assert.match(faults('queue: {banana: 1}')[0]?.hint ?? '', /known fields: max_length, max_wait/)
})

test('a wrong value is named with its line', () => {
  const [fault] = faults('queue:\n  max_length: 5\n  max_wait: 10\n')
  assert.deepEqual([fault?.path, fault?.line], ['queue.max_wait', 3])
  assert.match(fault?.message ?? '', /duration/)
})

test('broken YAML is named with its line', () => {
  assert.equal(faults('queue:\n  max_length: 5\n bad')[0]?.line, 3)
})

test('faults show no text of a document, and a tag is one (349)', () => {
  for (const headers of [
    'headers:\n  a: !secret x',
    'headers:\n  a: !!secret x',
    'headers: {a: secret, b: [}',
    'headers:\n  a: "secret',
    'headers:\n  a: secret: x: y',
    'headers: {a: b}\n]secret',
    'headers: {a: b} secret secret',
    'headers:\n  - a: secret\n b',
    'headers: {a: @secret}',
    'headers: {a: `secret`}',
  ]) {
    const parsed = readDocument(`url: http://h:1\n${headers}\n`, nodeSchema)
    assert(!parsed.ok, headers)
    assert.doesNotMatch(describeFaults(parsed.faults), /secret/)
  }
})

test('alias bombs, duplicate keys, oversize and emptiness are faults', () => {
  const bomb = `a: &a [x]\n${'bcdefgh'
    .split('')
    .map((key, at) => `${key}: &${key} [${`*${'abcdefg'[at]},`.repeat(30)}]`)
    .join('\n')}`
  for (const text of [
    bomb,
    'queue: {}\nqueue: {}',
    '',
    '# only a comment',
    `a: ${'x'.repeat(300_000)}`,
    '[]',
    '"text"',
    '\u0000\u0001',
  ]) {
    assert(describeFaults(faults(text)).length > 0)
  }
})

test('no text at all makes the reader throw', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.json(), fc.string({ unit: 'binary' })),
      (text) => void readDocument(text, configSchema),
    ),
  )
})

test('a node URL with a path, credentials or another scheme is refused with the reason', () => {
  const reasons = {
    'http://h:1/api': /path/,
    'http://u:secret@h:1': /credentials/,
    'ftp://h:1': /scheme "ftp"/,
    'file:///etc/passwd': /scheme "file"/,
    'h:11434': /write http:\/\/HOST:11434/,
    'http://h:1?x': /query/,
    'http://h:99999': /not a URL/,
    'http://u:secret@h:99999': /"http:\/\/…@h:99999" is not a URL/,
    'u:secret@h:1': /"…@h:1" is not a URL/,
    'http://h:99999?token=secret': /"http:\/\/h:99999\?…" is not a URL/,
  }
  for (const [url, reason] of Object.entries(reasons)) {
    const parsed = readDocument(JSON.stringify({ url }), nodeSchema)
    assert(!parsed.ok, url)
    assert.match(describeFaults(parsed.faults), reason)
    assert(!describeFaults(parsed.faults).includes('secret'))
  }
})

test('headers that frame or break a message, and invalid certificates, are refused', () => {
  const url = 'http://h:1'
  for (const fields of [
    { headers: { Host: 'x' } },
    { headers: { 'transfer-encoding': 'chunked' } },
    { headers: { 'X-A': 'a\r\nb: c' } },
    { headers: { 'a b': 'c' } },
    { tls: { ca: 'junk' } },
  ]) {
    assert(!readDocument(JSON.stringify({ url, ...fields }), nodeSchema).ok, JSON.stringify(fields))
  }
  assert(readDocument(JSON.stringify({ url, headers: { Authorization: 'Bearer x' } }), nodeSchema).ok)
})

test('a missing field is reported as required', () => {
  const parsed = readDocument('labels: {}', nodeSchema)
  assert(!parsed.ok)
  assert.deepEqual(
    parsed.faults.map(({ path, message }) => [path, message]),
    [['url', 'is required']],
  )
})

test('a field that occurs twice is named with its line, in YAML as in JSON (343)', () => {
  const texts = [
    'queue:\n  max_length: 5\n  max_wait: 1s\n  max_length: 6\n',
    '{"queue":{\n"max_length":5,\n"max_wait":"1s",\n"max_\\u006cength":6}}',
    'queue: {max_length: 5,\n\n\n "max_length": 6}',
    'models:\n- match: a\n  num_ctx: 1\n  match: b\n',
  ]
  const paths = ['queue.max_length', 'queue.max_length', 'queue.max_length', 'models.0.match']
  for (const [index, text] of texts.entries())
    assert.deepEqual(faults(text), [{ path: paths[index], line: 4, message: 'occurs twice' }])
})

test('a wrong value in JSON is named with its line, in lists too (343)', () => {
  const [fault] = faults('{"models":[\n{"match":"a"},\n{"match":"b",\n"num_ctx":"x"}]}')
  assert.deepEqual([fault?.path, fault?.line], ['models.1.num_ctx', 4])
})

test('of many faults the first are reported, with the number of the others (343)', () => {
  const many = faults(
    JSON.stringify(Object.fromEntries(Array.from({ length: 500 }, (_, at) => [`f${at}`, 1]))),
  )
  assert.equal(many.length, 20)
  assert.equal(many.at(-1)?.message, 'and 481 more faults')
})

test('a circle of aliases, an alias without its anchor and keys that are not text are faults (343)', () => {
  assert.match(describeFaults(faults('a: &x [*x]')), /nested deeper/)
  assert.match(describeFaults(faults('a: *x')), /anchor/)
  assert.match(describeFaults(faults('? [a, b]\n: 1\n')), /key that is not plain text/)
})

test('a large document can be JSON (343)', () => {
  const models = Array.from({ length: 1000 }, (_, at) => ({ match: `model${at}`, num_ctx: 4096 }))
  assert.deepEqual(readDocument(JSON.stringify({ models }, null, 2), configSchema).ok, true)
})

test('a text of too many lines, or JSON of too many values, is refused before it is read (343)', () => {
  const ca = (lines: number) => `url: http://h:1\ntls:\n  ca: |\n${'    QUJD\n'.repeat(lines)}`
  const withLines = (lines: number) => {
    const parsed = readDocument(ca(lines), nodeSchema)
    assert(!parsed.ok)
    return describeFaults(parsed.faults)
  }
  assert.equal(withLines(3996), 'line 3: tls.ca: is not a PEM certificate')
  assert.equal(withLines(3998), 'has more than 4000 lines; as JSON it may have more')
  const lists = (items: string, count: number) =>
    `{"models":[${Array(count).fill(`[${items}]`).join(',\n')}]}`
  const items = Array(999).fill('"a,b"').join()
  assert.match(describeFaults(faults(lists(items, 9))), /^line 1: models.0: must be a map/)
  assert.equal(describeFaults(faults(lists(items, 11))), 'has more than 10000 fields and items')
  const commas = JSON.stringify({ models: [{ match: 'a,"'.repeat(20_000), num_ctx: 'x' }] })
  assert.match(describeFaults(faults(commas)), /models.0.num_ctx: must be/)
})

test('a node has at most a hundred labels and headers (343)', () => {
  const many = Object.fromEntries(Array.from({ length: 101 }, (_, at) => [`x${at}`, 'v']))
  for (const field of ['labels', 'headers']) {
    const parsed = readDocument(JSON.stringify({ url: 'http://h:1', [field]: many }), nodeSchema)
    assert(!parsed.ok)
    assert.match(describeFaults(parsed.faults), new RegExp(`${field}: must be at most 100`))
  }
})
