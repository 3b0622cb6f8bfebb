import { parseArgs } from 'node:util'
import { asJson, asTable } from './report.ts'
import { run } from './run.ts'
import { fullSize, quickSize } from './size.ts'

/**
 * `npm run bench [-- --quick] [-- -o json]`: what llamero costs, beside what else could stand in its place, measured in
 * one run on one machine. The exit code tells whether the bench worked, never what it found: figures depend on the
 * machine, only ratios of one run are worth comparing. Linux only: costs are read from /proc.
 */
const usage = 'usage: npm run bench -- [--quick] [-o table|json]'

function readOptions() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      output: { type: 'string', short: 'o', default: 'table' },
    },
  })
  if (values.output !== 'table' && values.output !== 'json')
    throw new Error(`-o ${values.output}: is not table or json`)
  return { size: values.quick ? quickSize : fullSize, output: values.output }
}

// Programs that run end with this process; an interrupted bench must get as far as ending them.
process.once('SIGINT', () => process.exit(130))
process.once('SIGTERM', () => process.exit(143))

const say = (line: string) => void process.stderr.write(`${line}\n`)
try {
  const { size, output } = readOptions()
  const results = await run(size, say)
  process.stdout.write((output === 'json' ? asJson : asTable)(results, size.rounds))
} catch (error) {
  const isUsage = (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS')
  say(isUsage ? `error: ${(error as Error).message}\n${usage}` : `error: ${String(error)}`)
  process.exitCode = isUsage ? 2 : 1
}
