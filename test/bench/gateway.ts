import { parseArgs } from 'node:util'
import { asJson, asTable } from './report.ts'
import { run } from './run.ts'
import { fullSize, quickSize } from './size.ts'

/**
 * `npm run bench`: what llamero costs, beside what else could stand in its place, measured in one run on one machine.
 * The exit code tells whether the bench worked, never what it found: figures depend on the machine, only ratios of one
 * run are worth comparing. Linux only: costs are read from /proc.
 */
const usage = 'usage: npm run bench -- [--quick] [-o table|json]'

/** @throws Error that says what is wrong with the command line. */
function readOptions() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      output: { type: 'string', short: 'o', default: 'table' },
    },
  })
  if (values.output !== 'table' && values.output !== 'json')
    throw new Error(`unknown output ${values.output}`)
  return { size: values.quick ? quickSize : fullSize, render: values.output === 'json' ? asJson : asTable }
}

function fail(exitCode: number, ...lines: readonly string[]): void {
  for (const line of lines) say(line)
  process.exitCode = exitCode
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

async function main(): Promise<void> {
  let options: ReturnType<typeof readOptions>
  try {
    options = readOptions()
  } catch (error) {
    return fail(2, `error: ${(error as Error).message}`, usage)
  }
  const { size, render } = options
  try {
    process.stdout.write(render(await run(size, say), size.rounds))
  } catch (error) {
    fail(1, `error: ${(error as Error).message}`)
  }
}

// What was started ends when this process exits; a signal alone would not get it as far as that.
process.once('SIGINT', () => process.exit(130))
process.once('SIGTERM', () => process.exit(143))
await main()
