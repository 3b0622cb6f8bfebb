import { type Command, Option } from 'commander'
import type { CliContext, Flags, Setting } from './context.ts'
import { numberOption, repeated } from './options.ts'

/** Called with the exit code of a command that ran until it was told to stop. */
type Finish = (exitCode: number) => void

/** `serve`, `quickstart` and `simulate node`: the commands that do not end by themselves. */
export function addServeCommands(program: Command, { settings, run }: CliContext, finish: Finish): void {
  const own = (setting: Setting) =>
    setting.flag !== '' && !setting.secret && !program.options.some((option) => option.long === setting.flag)
  const withFlag = settings().filter(own)

  const serve = program.command('serve').alias('start').description('run an instance')
  addFlags(serve, withFlag).action(async () => finish(await run.serve(flagsOf(serve, withFlag))))

  const quickstart = program
    .command('quickstart')
    .description('run an instance with the Ollama of this machine, or with simulated nodes')
  addFlags(quickstart, withFlag).action(async () =>
    finish(await run.quickstart(flagsOf(quickstart, withFlag))),
  )

  program
    .command('simulate')
    .description('stand-ins for real servers')
    .command('node <name>')
    .description('run a simulated Ollama server')
    .option('--port <port>', 'port it listens on; 0 is any free one', numberOption(0, 65_535), 0)
    .option('--model <model>', 'a model it has; may be repeated', repeated)
    .option('--speed <factor>', 'pace; 2 is twice as fast', numberOption(0.001), 1)
    .option('--slots <number>', 'requests it runs at once per model', numberOption(1), 1)
    .action(async (name, { port, model, speed, slots }) =>
      finish(await run.simulateNode({ name, port, models: model ?? [], speed, slots })),
    )
}

function addFlags(command: Command, settings: readonly Setting[]): Command {
  for (const { flag, help, env } of settings) command.option(`${flag} <value>`, `${help} (env ${env})`)
  return command
}

/** The flags that were given, by the name of their setting. */
function flagsOf(command: Command, settings: readonly Setting[]): Flags {
  const flags: Flags = {}
  for (const { name, flag } of settings) {
    const value: unknown = command.getOptionValue(new Option(`${flag} <value>`).attributeName())
    if (typeof value === 'string') flags[name] = value
  }
  return flags
}
