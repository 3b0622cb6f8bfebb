import { type Command, Option } from 'commander'
import type { CliContext, Flags, Setting } from './context.ts'

/** Called with the exit code of a command that ran until it was told to stop. */
export type Finish = (exitCode: number) => void

/** `serve` and `quickstart`: the commands that do not end by themselves. */
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
