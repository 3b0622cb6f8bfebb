import type { core } from 'zod'

/** The message of an issue for which its schema has no words of its own: `issueText` has them. */
const unsaid = ''

/** How schemas are asked, so that `issueText` can tell what was found. */
export const inOurWords: core.ParseContext<core.$ZodIssue> = { reportInput: true, error: () => unsaid }

/** A schema's description of a field, in the terms of JSON Schema. */
export interface Shape {
  readonly properties?: Readonly<Record<string, Shape>>
  readonly items?: Shape
  readonly default?: unknown
  readonly minimum?: number
}

/** Characters of a found value that are repeated, and fields that are listed. */
const maxQuoted = 60
const maxListed = 12

/** Fields that may hold secrets: their values are never repeated, above all in logs and verdicts. */
const secret: ReadonlySet<PropertyKey> = new Set(['headers', 'hash', 'ca', 'token'])

/** What an operator or a caller reads of an issue: what the field must be, an example, and what was found. */
export function issueText(issue: core.$ZodIssue, shape: Shape | undefined): string {
  if (issue.message !== unsaid) return issue.message
  const { input } = issue
  if (input === undefined) return 'is required'
  const isSecret = issue.path.some((step) => secret.has(step))
  const instead = Number.isNaN(input) ? '' : `, not ${foundText(input, isSecret)}`
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${kindText(issue.expected, isSecret ? undefined : input, shape)}${instead}`
    case 'invalid_value':
      return `must be ${oneOf(issue.values.map(String))}${instead}`
    case 'too_small':
      return boundText(issue, issue.inclusive === false ? 'more than' : 'at least', issue.minimum)
    case 'too_big':
      return boundText(issue, issue.inclusive === false ? 'less than' : 'at most', issue.maximum)
    case 'invalid_format':
      return issue.format === 'datetime'
        ? `must be a date with a time and an offset, such as 2027-01-31T00:00:00Z${instead}`
        : `has a form that this field does not take${instead}`
    case 'invalid_key':
      return `the name ${issue.issues.map((each) => issueText(each, undefined)).join('; ')}`
    case 'unrecognized_keys':
      return `has unknown fields: ${issue.keys.slice(0, maxListed).join(', ')}`
    default:
      return 'has a form that this field does not take'
  }
}

function kindText(expected: string, input: unknown, shape: Shape | undefined): string {
  switch (expected) {
    case 'number':
      return `a number, such as ${exampleNumber(shape)}`
    case 'int':
      return `a whole number, such as ${exampleNumber(shape)}`
    case 'boolean':
      return 'true or false'
    case 'string':
      return isScalar(input) && typeof input !== 'string' ? `text, such as "${input}"` : 'text'
    case 'array':
      return `a list, such as [${isScalar(input) ? String(input).slice(0, maxQuoted) : ''}]`
    default: {
      const fields = Object.keys(shape?.properties ?? {})
      return fields.length === 0
        ? 'a map, such as {NAME: VALUE}'
        : `a map of fields (${listed(fields)}), such as {${fields[0]}: …}`
    }
  }
}

function exampleNumber(shape: Shape | undefined): number {
  if (typeof shape?.default === 'number') return shape.default
  return Math.max(1, shape?.minimum ?? 1)
}

type Bound = core.$ZodIssueTooSmall | core.$ZodIssueTooBig

function boundText({ origin, input }: Bound, how: string, bound: number | bigint): string {
  if (typeof input === 'string')
    return input === ''
      ? 'must not be empty'
      : `must have ${how} ${counted(bound, 'character')}, not ${input.length}`
  if (Array.isArray(input))
    return input.length === 0
      ? 'must not be an empty list'
      : `must have ${how} ${counted(bound, 'item')}, not ${input.length}`
  return `must be ${how} ${bound}${origin === 'date' ? '' : `, not ${String(input)}`}`
}

function counted(number: number | bigint, noun: string): string {
  return `${number} ${noun}${Number(number) === 1 ? '' : 's'}`
}

function oneOf(values: readonly string[]): string {
  return values.length === 1 ? `"${values[0]}"` : `one of ${listed(values)}`
}

function listed(names: readonly string[]): string {
  const rest = names.length - maxListed
  return names.slice(0, maxListed).join(', ') + (rest > 0 ? ` and ${rest} more` : '')
}

function foundText(input: unknown, isSecret: boolean): string {
  if (input === null) return 'empty'
  if (Array.isArray(input)) return 'a list'
  if (typeof input === 'object') return 'a map'
  if (typeof input !== 'string') return isSecret ? `a ${typeof input}` : String(input)
  if (isSecret) return 'this text'
  return `the text "${input.slice(0, maxQuoted)}${input.length > maxQuoted ? '…' : ''}"`
}

function isScalar(value: unknown): value is string | number | boolean {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
}
