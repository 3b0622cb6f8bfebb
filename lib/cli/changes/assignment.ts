import { CliFailure, exits } from '../cli-failure.ts'

/** `["a", "b=c"]` of `a=b=c`. @param rule what to write instead. @throws Failure (usage) */
export function splitAssignment(text: string, rule: string): [string, string] {
  const at = text.indexOf('=')
  if (at < 1) throw new CliFailure(exits.usage, `"${text}" has no "=": ${rule}`)
  return [text.slice(0, at), text.slice(at + 1)]
}
