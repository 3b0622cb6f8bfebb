import fc from 'fast-check'

/** Pieces that a reader of YAML may find heavy when there are thousands; `#` stands for a number that counts up. */
const repeated: Readonly<Record<string, readonly [piece: string, before?: string, after?: string]>> = {
  'keys of a block map': ['k#: 1\n'],
  'keys without values': ['k#,', '{', '}'],
  'keys of a flow map': ['k#: 1,', '{', '}'],
  'keys of a JSON object': ['"k#":1,', '{', '"last":1}'],
  'equal keys': ['a: 1\n'],
  'equal JSON keys': ['"a":1,', '{', '"a":1}'],
  'long JSON keys': [`"${'k'.repeat(15)}#":1,`, '{"a":{', '"last":1}}'],
  'JSON keys with escapes': ['"\\u006b#":1,', '{', '"last":1}'],
  'keys of JSON that breaks off': ['"key#":1,', '{', '"last":1'],
  'explicit keys': ['? k#\n: v\n'],
  'empty keys': ['?\n'],
  'lists as keys': ['[a]: v,', '{', '}'],
  'items of a block list': ['- a\n'],
  'empty items': ['-\n'],
  'items of a flow list': ['a,', '[', ']'],
  'items of a JSON list': ['1,', '{"a":[', '1]}'],
  'empty maps': ['{},', '[', ']'],
  'empty JSON objects': ['{},', '{"a":[', '{}]}'],
  'JSON lists in JSON lists': ['['],
  'open braces': ['{"a":'],
  'indented levels': ['- '],
  'anchors and aliases': ['- &a# 1\n- *a#\n'],
  'one anchor set again': ['- &a 1\n- *a\n'],
  'aliases of one list': ['- *a\n', '- &a [x, x, x, x, x, x, x, x]\n'],
  'aliases without anchors': ['a#: *b#\n'],
  tags: ['- !!str a\n'],
  'unknown tags': ['- !t# a\n'],
  'tag directives': ['%TAG !e#! tag:e#,2000:\n', '', '---\na: 1\n'],
  'merge keys': ['- <<: *a\n', '- &a {x: 1}\n'],
  comments: ['#\n', '', 'a: 1\n'],
  'empty lines': ['\n', '', 'a: 1\n'],
  'lines of a plain text': [' x\n\n', 'a:\n'],
  'lines of a literal text': [' x\n', 'a: |\n'],
  'lines of a folded text': [' x\n\n  y\n', 'a: >\n'],
  'lines of a quoted text': [' x\n', 'a: "\n', ' "'],
  'long lines of a plain text': [` ${'x '.repeat(32)}\n`, 'a:\n'],
  'long lines of a literal text': [` ${'x '.repeat(32)}\n`, 'a: |\n'],
  'long lines of a folded text': [` ${'x '.repeat(32)}\n`, 'a: >\n'],
  'long lines of a quoted text': [` ${'x '.repeat(32)}\n`, 'a: "\n', ' "'],
  certificates: [
    `    ${'x'.repeat(64)}\n`,
    'url: https://a:1\ntls:\n  ca: |\n    -----BEGIN CERTIFICATE-----\n',
  ],
  'invalid escapes': ['\\q', 'a: "', '"'],
  'valid escapes': ['\\u0041', 'a: "', '"'],
  'closing brackets': [']'],
  'closing braces': ['}'],
  commas: [',', '[', ']'],
  documents: ['---\n'],
  'ends of documents': ['...\n'],
  'two values on each line': ['"a" "b"\n'],
  'reserved characters': ['@a: 1\n'],
  spaces: [' ', 'a: x', 'y'],
  tabs: ['\t'],
  'carriage returns': ['k#: 1\r\n'],
  'long keys': [`${'k'.repeat(200)}#: 1\n`],
  'one long key': ['k', '"', '": 1'],
  'one long number': ['1', 'a: '],
  'what begins as a number': ['1', 'a: ', 'x'],
  'words of a plain text': ['x ', 'a: ', 'x'],
  'number signs': ['x#', 'a: '],
  'blanks in a plain text': [' \t', 'a: x', 'y'],
  'control characters': ['a: \0'],
  'half characters': ['\ud800', 'a: '],
  headers: ['  h#: v\n', 'url: http://a:1\nheaders:\n'],
  'JSON headers': ['"h#":"v",', '{"url":"http://a:1","headers":{', '"h":"v"}}'],
  'wrong labels': ['  l#: 5\n', 'url: http://a:1\nlabels:\n'],
  'wrong JSON labels': ['"l#":5,', '{"url":"http://a:1","labels":{', '"l":5}}'],
  'unknown JSON fields in many objects': ['{"matsh":"x"},', '{"models":[', '{}]}'],
  'wide JSON objects': [
    `{${Array.from({ length: 900 }, (_, n) => `"k${n}":1`).join()}},`,
    '{"models":[',
    '{}]}',
  ],
  'wrong items': ['{"match":5},', '{"models":[', '{}]}'],
  stars: ['a*', '{"match":{"model":"', '"}}'],
}

/** Documents of about `size` characters, by what there is much of in them. */
export function heavyDocuments(size: number): Map<string, string> {
  return new Map(
    Object.entries(repeated).map(([name, [piece, before, after]]) => [
      name,
      repeat(size, piece, before, after),
    ]),
  )
}

/** Documents in which a few kinds of heavy thing follow each other, or one stands within the other. */
export const mixedDocument = (size: number) => {
  const kinds = Object.values(repeated)
  const part = fc.tuple(fc.constantFrom(...kinds), fc.double({ min: 0.05, max: 1, noNaN: true }))
  return fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => {
    const total = parts.reduce((sum, [, weight]) => sum + weight, 0)
    return parts
      .map(([[piece, before, after], weight]) => repeat((size * weight) / total, piece, before, after))
      .join('')
  })
}

function repeat(size: number, piece: string, before = '', after = ''): string {
  const pieces: string[] = []
  let length = before.length + after.length
  for (let number = 0; ; number++) {
    const next = piece.replaceAll('#', String(number))
    length += next.length
    if (length > size) return [before, ...pieces, after].join('')
    pieces.push(next)
  }
}
