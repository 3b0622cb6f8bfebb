import { readFileSync, writeFileSync } from 'node:fs'
import { collect, parse, render, tablePath } from './fault-table.ts'

/**
 * `npm run fault-table [-- FILE ...]`: runs the tests that cite cases, of these files or of all (ten minutes), and writes the
 * table; exits with 1 when one of them fails.
 */
const rows = await collect(process.argv.slice(2), parse(readFileSync(tablePath, 'utf8')))
writeFileSync(tablePath, render(rows))
for (const { number, file, test } of rows.filter(({ result }) => result !== 'passes')) {
  console.error(`${number} ${file}: ${test}`)
  process.exitCode = 1
}
