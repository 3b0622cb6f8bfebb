import type { Command } from 'commander'
import { didYouMean } from '../fleet/document.ts'

/**
 * Turns commander's message into ours: one line that says what is wrong, one that says what to type instead.
 * `error: unknown command 'nod'\n(Did you mean node?)` is how commander suggests; for `--flag=value` it does not.
 */
export function usageHint(message: string, program: Command, argv: readonly string[]) {
  const [first = '', suggestion] = message.split('\n')
  // The value is not repeated: it may be a secret that was never meant for a command line.
  const what = first.replace(/^(error: unknown option '--[^=]+)=.*$/s, "$1'")
  const meant = suggestion?.match(/^\(Did you mean (.*)\?\)$/)?.[1]
  if (meant) return { what, hint: `did you mean ${meant}?` }
  const command = commandOf(program, argv)
  const flag = /^error: unknown option '(--.*)'$/.exec(what)?.[1]
  const known = command.options.flatMap((option) => option.long ?? [])
  const near = flag === undefined ? null : didYouMean(flag, known)
  return { what, hint: near ? `did you mean ${near}?` : `${pathOf(command)} --help` }
}

/** The command that a command line leads to, as far as its words are commands. */
function commandOf(program: Command, argv: readonly string[]): Command {
  let command = program
  for (const word of argv) {
    command =
      command.commands.find((next) => next.name() === word || next.aliases().includes(word)) ?? command
  }
  return command
}

function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name()
}
