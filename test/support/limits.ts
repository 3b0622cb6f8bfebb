/**
 * Loaded before each test file (`--import`). A file ends, by its name, when it takes too long, and when its tests are over
 * but something they opened keeps the process alive: the runner would wait for it for ever.
 */
import { relative } from 'node:path'
import { after } from 'node:test'

const { env, execArgv, argv } = process
const testTimeoutMs = Number(
  execArgv.find((each) => each.startsWith('--test-timeout='))?.split('=')[1] ?? 300_000,
)
/** Milliseconds for a whole file: many tests, none of which may take longer than its own limit. */
const fileMs = Number(env['TEST_FILE_MS'] ?? 3 * testTimeoutMs)
/** Milliseconds that sockets and processes have to close after the last test. */
const endingMs = Number(env['TEST_ENDING_MS'] ?? 10_000)

// The runner itself loads this too.
if (env['NODE_TEST_CONTEXT'] === 'child-v8') {
  limit(fileMs, 'takes too long')
  after(() => limit(endingMs, 'is over, but leaves something open'))
}

function limit(ms: number, what: string): void {
  const end = () => {
    const file = relative('.', argv[1] ?? '')
    const open = process.getActiveResourcesInfo().filter((each) => each !== 'PipeWrap' && each !== 'Timeout')
    process.stderr.write(`${file} ${what} (${ms} ms): ${open.join(', ') || 'timers'}\n`)
    process.exit(1)
  }
  setTimeout(end, ms).unref()
}
