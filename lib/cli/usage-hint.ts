import type { Command } from 'commander'
import { didYouMean } from '../shared/did-you-mean.ts'

/**
 * Turns a message of commander into an error and a hint: one line with the fault, one with what to type instead.
 * Commander suggests by `error: unknown command 'nod'\n(Did you mean node?)`; for `--flag=value` it makes no suggestion.
 */
export function usageHint(message: string, program: Command, argv: readonly string[]) {
  const [first = '', suggestion] = message.split('\n')
  // The value is not repeated: it may be a secret.
  const what = first.replace(/^(error: unknown option '--[^=]+)=.*$/s, "$1'")
  const command = commandOf(program, argv)
  const word = /^error: unknown command '(.*)'$/.exec(what)?.[1] ?? ''
  // A synonym comes before a similar spelling: "route get" is no typing error for "route set".
  const synonym = synonymOf(word, command)
  if (synonym !== null) return { what, hint: `did you mean "${pathOf(command)} ${synonym}"?` }
  const meant = suggestion?.match(/^\(Did you mean (.*)\?\)$/)?.[1]
  if (meant) return { what, hint: `did you mean ${meant}?` }
  if (word && command !== program)
    return { what, hint: `${pathOf(command)} has: ${namesOf(command).join(', ')}` }
  const flag = /^error: unknown option '(--.*)'$/.exec(what)?.[1]
  const known = command.options.flatMap((option) => option.long ?? [])
  const near = flag === undefined ? null : didYouMean(flag, known)
  return { what, hint: near ? `did you mean ${near}?` : `${pathOf(command)} --help` }
}

/** Verbs of other command lines, with the verbs here that they may mean; the first that the noun has is suggested. */
const synonyms: Readonly<Record<string, readonly string[]>> = {
  show: ['get', 'where', 'list'],
  get: ['show', 'list'],
  describe: ['show', 'get', 'list'],
  info: ['show', 'get', 'list'],
  status: ['show', 'list'],
  delete: ['remove', 'revoke', 'rm', 'cancel'],
  del: ['remove', 'revoke', 'rm', 'cancel'],
  remove: ['revoke', 'cancel'],
  add: ['create', 'set', 'pull'],
  create: ['add', 'set', 'apply', 'pull'],
  update: ['set', 'edit'],
  edit: ['set'],
  stop: ['unload', 'drain', 'cancel'],
}

function synonymOf(word: string, command: Command): string | null {
  const names = namesOf(command)
  const candidates = Object.hasOwn(synonyms, word) ? (synonyms[word] ?? []) : []
  return candidates.find((name) => names.includes(name)) ?? null
}

function namesOf(command: Command): string[] {
  return command.commands.map((each) => each.name())
}

/** The innermost command that the words of a command line name. */
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
