import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { citations, parse, render, tablePath } from '../../support/fault-table.ts'
import { groups, untested } from '../../wire/cases.ts'

const remedy = 'run "npm run fault-table" and commit test/fault-table.md'

suite('the fault table', () => {
  const cited = citations()
  const table = readFileSync(tablePath, 'utf8')
  const rows = parse(table)

  test('has for every case a test that cites it, or a sentence why not', () => {
    const tested = new Set(cited.flatMap(({ numbers }) => numbers))
    const bare = groups
      .flatMap(({ cases }) => Object.entries(cases))
      .filter(([number]) => !tested.has(Number(number)) && untested[Number(number)] === undefined)
    assert.deepEqual(bare, [])
  })

  test('lists every test that cites a case', () => {
    const missing = cited.flatMap(({ file, text, numbers }) =>
      numbers
        .filter(
          (number) =>
            !rows.some((row) => row.number === number && row.file === file && row.test.includes(text)),
        )
        .map((number) => ({ number, file, text })),
    )
    assert.deepEqual(missing, [], remedy)
  })

  test('lists no test that is gone, and none that failed', () => {
    const stale = rows.filter(
      ({ number, file, test, result }) =>
        result !== 'passes' ||
        !cited.some(
          (each) => each.file === file && each.numbers.includes(number) && test.includes(each.text),
        ),
    )
    assert.deepEqual(stale, [], remedy)
  })

  test('is up to date: it would be written the same', () => {
    assert.equal(render(rows), table, remedy)
  })
})
