import { type Command, Option } from 'commander'
import type { CliContext, Flags, Setting } from './context.ts'
import { numberOption, repeated } from './options.ts'

/** Called with the exit code of a command that ran until it was told to stop. */
export type Finish = (exitCode: number) => void

/** `serve`, `quickstart` and `simulate node`: the commands that do not end by themselves. */
export function addServeCommands(program: Command, { settings, run }: CliContext, finish: Finish): void {
  const options = flagOptions(settings())
  const instance = (name: string) => {
    const command = program.command(name)
    for (const option of options) command.addOption(option)
    return command
  }
  const serve = instance('serve')
    .alias('start')
    .description('run an instance')
    .action(async () => finish(await run.serve(flagsOf(serve))))
  const quickstart = instance('quickstart')
    .description('run an instance with the Ollama of this machine, or with simulated nodes')
    .action(async () => finish(await run.quickstart(flagsOf(quickstart))))

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

/** A flag per setting that may have one, and the file the others are in. */
export function flagOptions(settings: readonly Setting[]): Option[] {
  const own = settings.filter(({ flag, secret }) => flag !== '' && !secret)
  return [
    new Option('--config <file>', 'settings file (env LLAMERO_CONFIG)'),
    ...own.map(({ flag, help, env }) => new Option(`${flag} <value>`, `${help} (env ${env})`)),
  ]
}

/** The flags that were given. */
export function flagsOf(command: Command): Flags {
  const given = command.options.map((option) => [
    option.name(),
    command.getOptionValue(option.attributeName()),
  ])
  return Object.fromEntries(given.filter(([, value]) => value !== undefined))
}
