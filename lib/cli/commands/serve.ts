import { type Command, Option } from 'commander'
import type { CommandFlags, Finish, Setting } from '../cli-context.ts'
import type { Invocation } from '../invocation.ts'

/** `llamero serve`. */
export function fillServe(serve: Command, { context }: Invocation, finish: Finish): void {
  for (const option of flagOptions(context.settings())) serve.addOption(option)
  serve.action(async () => finish(await context.run.serve(flagsOf(serve))))
}

/** `llamero quickstart`: takes the flags of `serve`. */
export function fillQuickstart(quickstart: Command, { context }: Invocation, finish: Finish): void {
  for (const option of flagOptions(context.settings())) quickstart.addOption(option)
  quickstart.action(async () => finish(await context.run.quickstart(flagsOf(quickstart))))
}

/** One flag for each setting that has one, and the flag for the settings file. */
export function flagOptions(settings: readonly Setting[]): Option[] {
  const own = settings.filter(({ flag, secret }) => flag !== '' && !secret)
  return [
    new Option('--config <file>', 'settings file (env LLAMERO_CONFIG)'),
    ...own.map(({ flag, help, env }) => new Option(`${flag} <value>`, `${help} (env ${env})`)),
  ]
}

/** The flags that were given. */
export function flagsOf(command: Command): CommandFlags {
  const given = command.options.map((option) => [
    option.name(),
    command.getOptionValue(option.attributeName()),
  ])
  return Object.fromEntries(given.filter(([, value]) => value !== undefined))
}
