import assert from 'node:assert/strict'
import { test } from 'node:test'
import stringWidth from 'string-width'
import { JobPace } from '../../../lib/cli/terminal/job-pace.ts'
import { type ProgressRow, progressBars, progressLine } from '../../../lib/cli/terminal/progress-bars.ts'
import { printable } from '../../../lib/cli/terminal/table.ts'

function aRow(given: Partial<ProgressRow> & { node: string }): ProgressRow {
  return { state: 'running', status: '', completed: 0, total: 0, error: null, rate: null, ...given }
}

const pulling = aRow({
  node: 'gpu-a',
  status: 'pulling e7b273f96360',
  completed: 8.7e9,
  total: 13.8e9,
  rate: 112.4e6,
})
const rows: readonly ProgressRow[] = [
  pulling,
  aRow({ node: 'gpu-bb', status: 'pulling manifest' }),
  aRow({ node: 'gpu-c', state: 'done', status: 'success', completed: 4.7e9, total: 4.7e9 }),
  aRow({ node: 'gpu-d', state: 'failed', completed: 1, total: 9, error: 'no space left on device' }),
  aRow({ node: 'gpu-e', state: 'waiting' }),
]

const looks: readonly [columns: number, lines: readonly string[]][] = [
  [
    90,
    [
      'gpu-a   pulling e7b273f96360   63% ▕█████████████         ▏ 8.7 GB/ 13 GB  112 MB/s   46s',
      'gpu-bb  pulling manifest',
      'gpu-c   done                  100% ▕██████████████████████▏ 4.7 GB/4.7 GB',
      'gpu-d   failed: no space left on device',
      'gpu-e   waiting',
    ],
  ],
  [
    70,
    [
      'gpu-a   pulling e7b273f96360   63% 8.7 GB/ 13 GB  112 MB/s   46s',
      'gpu-bb  pulling manifest',
      'gpu-c   done                  100% 4.7 GB/4.7 GB',
      'gpu-d   failed: no space left on device',
      'gpu-e   waiting',
    ],
  ],
  [
    30,
    [
      'gpu-a    63% 8.7 GB/ 13 GB  1',
      'gpu-bb  pulling manifest',
      'gpu-c   100% 4.7 GB/4.7 GB',
      'gpu-d   failed: no space left',
      'gpu-e   waiting',
    ],
  ],
]
for (const [columns, lines] of looks) {
  test(`on ${columns} columns each node has one line that fits`, () => {
    assert.deepEqual(progressBars(rows, { columns, rows: 24 }), lines)
  })
}

test('on a wide screen a bar is not longer than the eye can follow', () => {
  const [line = ''] = progressBars([pulling], { columns: 400, rows: 24 })
  assert.match(line, /▕█{31} {19}▏/)
})

test('on a low screen changing rows are shown, and the rest is counted', () => {
  assert.deepEqual(
    progressBars([...rows].reverse(), { columns: 90, rows: 6 }).map((line) => line.slice(0, 40)),
    [
      'gpu-bb  pulling manifest',
      'gpu-a   pulling e7b273f96360   63% ▕████',
      'gpu-d   failed: no space left on device',
      'and 2 more: 1 waiting, 1 done',
    ],
  )
})

test('no bar is wider than the screen when a node answers in wide or in control characters', () => {
  const answers = ['下载模型清单下载模型清单', '\u001b[2J\u001b[2J\u001b[2J\u001b[2J\u001b[2J']
  for (const columns of [40, 70, 90])
    for (const status of answers)
      for (const row of [{ ...pulling, status }, aRow({ node: 'gpu-a', error: status.repeat(9) })])
        for (const line of progressBars([row, pulling], { columns, rows: 24 })) {
          const printed = printable(line)
          assert.ok(stringWidth(printed) < columns, printed)
          assert.equal(stringWidth(line), stringWidth(printed))
        }
})

test('log lines show the same without bars', () => {
  assert.deepEqual(rows.map(progressLine), [
    'gpu-a: pulling e7b273f96360 63% 8.7 GB/13 GB 112 MB/s 46s',
    'gpu-bb: pulling manifest',
    'gpu-c: done 100% 4.7 GB/4.7 GB',
    'gpu-d: failed: no space left on device',
    'gpu-e: waiting',
  ])
})

test('a bar is full only when everything is there, and never more than full', () => {
  const bar = (completed: number) => progressLine(aRow({ node: 'a', completed, total: 1000 }))
  assert.deepEqual(
    [bar(999), bar(1000), bar(1001)],
    ['a: running 99% 999 B/1 KB', 'a: running 100% 1 KB/1 KB', 'a: running 100% 1.0 KB/1 KB'],
  )
})

test('a waiting node shows what it waits for', () => {
  const row = aRow({ node: 'a', completed: 5, total: 9, error: 'the node is down' })
  assert.equal(progressLine(row), 'a: running: the node is down')
})

test('a node without progress has no rate and no remaining time', () => {
  assert.equal(progressLine({ ...pulling, rate: 0 }), 'gpu-a: pulling e7b273f96360 63% 8.7 GB/13 GB')
})

test('a pace covers the last ten seconds, once enough time was measured', () => {
  const pace = new JobPace()
  assert.equal(pace.rate, null)
  pace.observe(0, 0)
  pace.observe(1500, 300)
  assert.equal(pace.rate, null)
  pace.observe(2000, 400)
  assert.equal(pace.rate, 200)
  for (let at = 3000; at <= 20_000; at += 1000) pace.observe(at, 400)
  assert.equal(pace.rate, 0)
})

test('a pace starts again when a node starts again', () => {
  const pace = new JobPace()
  pace.observe(0, 1000)
  pace.observe(5000, 6000)
  assert.equal(pace.rate, 1000)
  pace.observe(6000, 100)
  assert.equal(pace.rate, null)
  pace.observe(8000, 500)
  assert.equal(pace.rate, 200)
})
