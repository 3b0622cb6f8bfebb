/**
 * The doors to the tests: `npm test` for all that CI runs, `npm run test:unit`, `test:fast`, `test:nightly` for parts of it,
 * `npm test -- FILE ...` for some files with their set-up.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { install, ownNode, root } from './install.js'

const minute = 60_000

/** @typedef {{ files: string, atOnce: number, minutes: number, flags?: string[] }} Part */
/** @type {Record<string, Part>} */
const parts = {
  unit: { files: 'test/unit/**/*.test.ts', atOnce: 2, minutes: 5 },
  wire: { files: 'test/wire/**/*.test.ts', atOnce: 2, minutes: 5 },
  // One run, since the last file of a run has the machine to itself.
  parts: { files: 'test/{unit,integration,wire}/**/*.test.ts', atOnce: 2, minutes: 5 },
  // Whole processes, which wait for each other more than they work.
  whole: { files: 'test/{scenarios,faults}/**/*.test.ts', atOnce: 3, minutes: 5 },
  nightly: { files: 'test/nightly/**/*.test.ts', atOnce: 1, minutes: 30, flags: ['--expose-gc'] },
}

/** What each door runs, in this order; the first that fails is the last. @type {Record<string, string[]>} */
const doors = {
  all: ['check', 'parts', 'whole'],
  fast: ['check', 'unit', 'wire'],
  unit: ['unit'],
  parts: ['parts'],
  whole: ['whole'],
  nightly: ['nightly'],
}

/** Runs a command to its end, and ends with its exit code when that is not 0. @param {string} program @param {string[]} args */
function run(program, args) {
  const isScript = process.platform === 'win32' && program === 'npm'
  const { status, signal } = spawnSync(program, args, { cwd: root, stdio: 'inherit', shell: isScript })
  if (signal) process.kill(process.pid, signal)
  if (status !== 0) process.exit(status ?? 1)
}

/** @param {Part} part @param {string[]} given files and flags in place of the part's files */
function test({ files, atOnce, minutes, flags = [] }, ...given) {
  run(ownNode, [
    ...flags,
    '--test',
    `--test-concurrency=${atOnce}`,
    `--test-timeout=${minutes * minute}`,
    '--test-global-setup=test/support/setup.ts',
    '--import=./test/support/limits.ts',
    ...(given.length > 0 ? given : [files]),
  ])
}

const [door = 'all', ...rest] = process.argv.slice(2)
install()
// Each test file and each llamero that it starts is a process, which would compile the same modules again.
process.env['NODE_COMPILE_CACHE'] ??= join(root, 'node_modules', '.cache', 'compiled')
const steps = doors[door]
if (!steps) test({ files: '', atOnce: 2, minutes: 30, flags: ['--expose-gc'] }, door, ...rest)
else
  for (const step of steps) {
    const part = parts[step]
    if (part) test(part, ...rest)
    else run('npm', ['run', '--silent', step])
  }
