import { writeFileSync } from 'node:fs'
import { collect, render, tablePath } from './fault-table.ts'

/** Runs the tests that cite cases and writes the table; exits with 1 when one of them fails. */
const rows = await collect()
writeFileSync(tablePath, render(rows))
for (const { number, file, test } of rows.filter(({ result }) => result !== 'passes')) {
  console.error(`${number} ${file}: ${test}`)
  process.exitCode = 1
}
