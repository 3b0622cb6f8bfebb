import { Command, CommanderError } from 'commander'
import { messageOf } from '../shared/errors.ts'
import type { CliContext } from './cli-context.ts'
import { CliFailure, exits } from './cli-failure.ts'
import { addCommands } from './commands.ts'
import { type GlobalOptions, Invocation } from './invocation.ts'
import type { Terminal } from './terminal/terminal.ts'
import { usageHint } from './usage-hint.ts'

export type { CliContext } from './cli-context.ts'

/** The longest delay of a timer, in milliseconds. */
const foreverMs = 2 ** 31 - 1

/**
 * Runs one command line (without node and script) and resolves to its exit code. Never throws and never ends the process: set
 * `process.exitCode` from the result, so that piped output is still written.
 */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  let exitCode: number = exits.ok
  const program = new Command('llamero')
  const invocation = new Invocation(context, () => program.opts<GlobalOptions>())
  // The clock's timers do not keep the process alive; a running command must.
  const awake = setInterval(() => {}, foreverMs)
  // `llamero node list | head -1`: the reader has closed the pipe, which is no error.
  context.stdout.on('error', () => {})
  try {
    configure(program, context)
    const finish = (code: number) => {
      exitCode = code
    }
    await addCommands(program, invocation, argv, finish)
    await program.parseAsync([...argv], { from: 'user' })
    return exitCode
  } catch (error) {
    if (context.signal.aborted) return exits.interrupted
    if (error instanceof CommanderError) return afterParser(error, invocation.terminal, program, argv)
    return afterFailure(error, invocation.terminal)
  } finally {
    clearInterval(awake)
  }
}

function configure(program: Command, { version, stdout, stderr }: CliContext): void {
  program
    .description('One address for a fleet of Ollama servers')
    .version(`llamero ${version}`, '-V, --version', 'the version of this executable')
    .option('--admin-url <url>', 'admin listener to talk to (env LLAMERO_ADMIN_URL)')
    .option('--no-color', 'plain text')
    .addHelpText('after', exitCodeHelp)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, subcommandTerm })
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      // `afterParser` reports it, like all other errors.
      outputError: () => {},
      getOutHelpWidth: () => stdout.columns ?? 100,
      getErrHelpWidth: () => stderr.columns ?? 100,
    })
}

/** The line of a command in a list of commands. Its options are left out: they are known only after it is filled. */
function subcommandTerm(command: Command): string {
  const args = command.registeredArguments.map((argument) => {
    const name = `${argument.name()}${argument.variadic ? '...' : ''}`
    return argument.required ? `<${name}>` : `[${name}]`
  })
  return [[command.name(), ...command.aliases().slice(0, 1)].join('|'), ...args].join(' ')
}

const exitCodeHelp = `
Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 not allowed, 5 conflict, 6 invalid, 7 unavailable, 8 waited too long`

/** Commander ends a command line by throwing: after help or the version (no error), or on a wrong command line. */
function afterParser(
  error: CommanderError,
  terminal: Terminal,
  program: Command,
  argv: readonly string[],
): number {
  if (error.exitCode === 0) return exits.ok
  if (error.code !== 'commander.help') {
    const { what, hint } = usageHint(error.message, program, argv)
    terminal.say(what, hint)
  }
  return exits.usage
}

function afterFailure(error: unknown, terminal: Terminal): number {
  const failure = error instanceof CliFailure ? error : new CliFailure(exits.failure, messageOf(error))
  terminal.say(`error: ${failure.message}`, failure.hint)
  return failure.exit
}
