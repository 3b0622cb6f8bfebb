import assert from 'node:assert/strict'
import { test } from 'node:test'
import { age, bytes, processor, until } from '../../../lib/cli/terminal/format.ts'
import { type Column, facts, table } from '../../../lib/cli/terminal/table.ts'

interface Row {
  readonly name: string
  readonly health: string
  readonly running: number
}
const columns: readonly Column<Row>[] = [
  { title: 'NAME', cell: (row) => row.name },
  { title: 'HEALTH', cell: (row) => row.health },
  { title: 'RUNNING', cell: (row) => String(row.running), align: 'right' },
  { title: 'NOTE', cell: () => 'n', wide: true },
]
const rows: readonly Row[] = [
  { name: 'a', health: 'up', running: 4 },
  { name: 'a-node-with-a-long-name', health: 'down', running: 12 },
]
const piped = { wide: false, colour: false, width: null }

test('a table is aligned under its header, without borders and without blanks at the line ends', () => {
  assert.equal(
    table(columns, rows, piped),
    [
      'NAME                     HEALTH  RUNNING',
      'a                        up            4',
      'a-node-with-a-long-name  down         12',
      '',
    ].join('\n'),
  )
})

test('a table without rows keeps its header', () => {
  assert.equal(table(columns, [], piped), 'NAME  HEALTH  RUNNING\n')
})

test('wide columns appear only when asked for', () => {
  assert.ok(!table(columns, rows, piped).includes('NOTE'))
  assert.ok(table(columns, rows, { ...piped, wide: true }).includes('NOTE'))
})

test('on a narrow terminal the widest column is cut, and no line is longer than the terminal', () => {
  const text = table(columns, rows, { ...piped, width: 30 })
  assert.ok(text.includes('a-node-with-…'), text)
  for (const line of text.split('\n')) assert.ok(line.length <= 30, line)
})

test('wide, combining and joined characters are aligned, and cut, by the columns that they take', () => {
  const foreign = ['模型模型模型模型', 'e\u0301tage', '🇩🇪 rack'].map((name) => ({
    name,
    health: 'up',
    running: 4,
  }))
  assert.equal(
    table(columns, foreign, piped),
    [
      'NAME              HEALTH  RUNNING',
      '模型模型模型模型  up            4',
      'e\u0301tage             up            4',
      '🇩🇪 rack           up            4',
      '',
    ].join('\n'),
  )
  assert.equal(
    table(columns, foreign, { ...piped, width: 30 }),
    [
      'NAME           HEALTH  RUNNING',
      '模型模型模型…  up            4',
      'e\u0301tage          up            4',
      '🇩🇪 rack        up            4',
      '',
    ].join('\n'),
  )
  assert.equal(
    facts(
      [
        ['名', '1'],
        ['name', '2'],
      ],
      false,
    ),
    '名    1\nname  2\n',
  )
})

test('colour repeats the state word, keeps the alignment and touches no other cell', () => {
  const plain = table(columns, [...rows, { name: 'up-1', health: 'unknown', running: 0 }], piped)
  const coloured = table(columns, [...rows, { name: 'up-1', health: 'unknown', running: 0 }], {
    ...piped,
    colour: true,
  })
  assert.ok(coloured.includes('\u001b[32mup '), coloured)
  assert.ok(coloured.includes('\u001b[31mdown'), coloured)
  assert.ok(!coloured.includes('\u001b[32mup-1'), coloured)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape sequences are what is looked for
  assert.equal(coloured.replace(/\u001b\[\d+m/g, ''), plain)
})

test('control characters in a name do not reach the terminal', () => {
  const text = table(columns, [{ name: 'a\u001b[2J\nb\u202e', health: 'up', running: 0 }], piped)
  assert.ok(text.includes('a?[2J?b?'), text)
  assert.equal(text.split('\n').length, 3)
  assert.equal(facts([['name', 'x\r\u0007']], false), 'name  x??\n')
})

test('facts show a dash for an unknown value', () => {
  const lines = facts(
    [
      ['version', ''],
      ['url', 'http://a:1'],
    ],
    false,
  )
  assert.equal(lines, 'version  -\nurl      http://a:1\n')
})

test('sizes are written as Ollama writes them', () => {
  assert.deepEqual([0, 999, 1000, 274_302_450, 3_338_801_804, 20e9, 5e15].map(bytes), [
    '0 B',
    '999 B',
    '1 KB',
    '274 MB',
    '3.3 GB',
    '20 GB',
    '5000 TB',
  ])
})

test('a loaded model shows its memory and expiry in the words of "ollama ps"', () => {
  assert.deepEqual(
    [processor(100, 100), processor(100, 0), processor(100, 60)],
    ['100% GPU', '100% CPU', '40%/60% CPU/GPU'],
  )
  const now = new Date('2026-01-01T00:00:00Z')
  assert.deepEqual(
    ['2026-01-01T00:05:00Z', '2025-12-31T23:59:59Z', '2318-01-01T00:00:00Z', ''].map((iso) =>
      until(iso, now),
    ),
    ['5m from now', 'Stopping...', 'Forever', '-'],
  )
})

test('an age that is unknown is a dash, and one in the future is zero', () => {
  const now = new Date('2026-01-13T00:00:00Z')
  assert.deepEqual(
    [age('2026-01-01T00:00:00Z', now), age(null, now), age('2027-01-01', now)],
    ['12d', '-', '0.0s'],
  )
})
