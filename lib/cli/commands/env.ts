import type { Command } from 'commander'
import type { Setting } from '../cli-context.ts'
import { type Output, withOutput } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { type Column, table } from '../terminal/table.ts'

/** `llamero env`: the settings of this executable, without a server. */
export function fillEnv(env: Command, { context, terminal }: Invocation): void {
  withOutput(env).action(({ output }: { output: Output }) => {
    const settings = context.settings().map(redacted)
    terminal.show({ apiVersion: 'llamero/v1', settings }, output, (look) => table(columns, settings, look))
  })
}

/** `llamero version`: the version of this executable, without a server. */
export function fillVersion(command: Command, { context, terminal }: Invocation): void {
  command.action(() => terminal.print(`llamero ${context.version}`))
}

const columns: readonly Column<Setting>[] = [
  { title: 'SETTING', cell: (setting) => setting.name },
  { title: 'VALUE', cell: (setting) => setting.value || '-' },
  { title: 'SOURCE', cell: (setting) => setting.source },
  { title: 'ENV', cell: (setting) => setting.env },
  { title: 'FLAG', cell: (setting) => setting.flag || '-', wide: true },
  { title: 'MEANING', cell: (setting) => setting.help, wide: true },
]

function redacted(setting: Setting): Setting {
  return setting.secret && setting.value ? { ...setting, value: '***' } : setting
}
