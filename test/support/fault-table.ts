import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from 'node:test'
import { groups, untested } from '../wire/cases.ts'

export const root = join(import.meta.dirname, '../..')
export const tablePath = join(root, 'test/fault-table.md')

/** A test that cites a case, and how it ended. */
export interface Row {
  readonly number: number
  /** Relative to the root. */
  readonly file: string
  /** With the names of its suites before it. */
  readonly test: string
  readonly result: string
}

/** A piece of a name in a source that cites cases, such as `resets the connection (140)`. */
export interface Citation {
  readonly file: string
  readonly text: string
  readonly numbers: readonly number[]
}

const known = new Set(groups.flatMap(({ cases }) => Object.keys(cases).map(Number)))
const citation = /(?<![^\s])\((\d{1,3}(?:, \d{1,3})*)\)/g
const literal = /(['"`])((?:\\.|(?!\1)[^\\\n])*)\1/g

/** The cases that a name cites. */
function numbersIn(name: string): number[] {
  const lists = [...name.matchAll(citation)].map(([, list = '']) => list)
  return lists.flatMap((list) => list.split(', ').map(Number)).filter((number) => known.has(number))
}

/** Every citation in the string literals of the test files, found without running them. */
export function citations(): Citation[] {
  const files = globSync('test/{unit,integration,wire,scenarios,faults}/**/*.test.ts', { cwd: root }).sort()
  return files.flatMap((file) =>
    [...readFileSync(join(root, file), 'utf8').matchAll(literal)]
      .flatMap(([, , text = '']) => text.split(/\$\{[^}]*\}/))
      .map((text) => ({ file, text: text.replaceAll(/\\(.)/g, '$1'), numbers: numbersIn(text) }))
      .filter(({ numbers }) => numbers.length > 0),
  )
}

/**
 * Runs files that cite cases, one after the other, and resolves to a row for each test and case.
 *
 * @param only the files to run, relative to the root; all when empty. Rows of the others are taken from `former`.
 */
export async function collect(only: readonly string[], former: readonly Row[]): Promise<Row[]> {
  const files = new Set(citations().map(({ file }) => file))
  const runs = (file: string) => only.length === 0 || only.includes(file)
  const rows = former.filter(({ file }) => files.has(file) && !runs(file))
  for (const file of files) if (runs(file)) rows.push(...(await rowsOf(file)))
  return rows
}

async function rowsOf(file: string): Promise<Row[]> {
  const rows: Row[] = []
  /** The suites around the next test. */
  const suites: string[] = []
  const setup = join(root, 'test/support/setup.ts')
  const options = { files: [join(root, file)], timeout: 300_000, globalSetupPath: setup }
  for await (const { type, data } of run(options)) {
    if (type === 'test:start') suites[data.nesting] = data.name
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details.type === 'suite') continue
    const test = [...suites.slice(0, data.nesting), data.name].join(' › ')
    const result = type === 'test:pass' ? 'passes' : 'fails'
    for (const number of new Set(numbersIn(test))) rows.push({ number, file, test, result })
  }
  return rows
}

/** The table as Markdown. */
export function render(rows: readonly Row[]): string {
  const sections = groups.map(({ name, title, cases }) => {
    const lines = Object.entries(cases).flatMap(([number, words]) => linesOf(Number(number), words, rows))
    return `## ${name} ${title}\n\n| case | what | test | result |\n|---|---|---|---|\n${lines.join('\n')}\n`
  })
  return `${preamble}\n${sections.join('\n')}`
}

const preamble = `# Faults and the tests that provoke them

Made by \`npm run fault-table\` from the names of the tests, which cite cases by number.
`

function linesOf(number: number, words: string, rows: readonly Row[]): string[] {
  const tests = rows
    .filter((row) => row.number === number)
    .map(({ file, test, result }) => [`${file}: ${test}`, result] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  const why = untested[number]
  const cells =
    why === undefined ? tests : [...tests, [`*${why}*`, tests.length > 0 ? 'in part' : 'no test'] as const]
  return cells.map(
    ([test, result]) => `| ${number} | ${words} | ${test.replaceAll('|', '\\|')} | ${result} |`,
  )
}

/** The rows of a table that `render` made. */
export function parse(table: string): Row[] {
  const lines = table.matchAll(/^\| (\d+) \| [^|]+ \| (test\/\S+\.test\.ts): (.*) \| (passes|fails) \|$/gm)
  return [...lines].map(([, number, file = '', test = '', result = '']) => ({
    number: Number(number),
    file,
    test: test.replaceAll('\\|', '|'),
    result,
  }))
}
