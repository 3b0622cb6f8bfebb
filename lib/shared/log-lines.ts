import { escapeInJson } from './control-characters.ts'
import { messageOf } from './errors.ts'
import type { LogFields, LogLevel } from './log.ts'

/** One event of the log. */
export interface LogEvent {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
}

/** A line of JSON. The fields stay an object of their own until here: copying them beside the level would cost as much as writing them. */
export function jsonLine({ level, message, fields }: LogEvent): string {
  const timestamp = new Date().toISOString()
  const head = `{"timestamp":"${timestamp}","level":"${level}","message":${JSON.stringify(message)}`
  const rest = escapeInJson(JSON.stringify(readable(fields)))
  return rest === '{}' ? `${head}}` : `${head},${rest.slice(1)}`
}

/** Printable ASCII without spaces, quotes, backslashes and equal signs. */
const plainWord = /^[!#-<>-[\]-~]+$/

/** A line for people: one line per event, no terminal codes, and no value that reads like another field. */
export function textLine({ level, message, fields }: LogEvent): string {
  const time = new Date().toTimeString().slice(0, 8)
  const shown = Object.entries(readable(fields)).filter(([, value]) => value !== undefined)
  const rest = shown.map(
    ([name, value]) => `${name}=${isPlain(value) ? value : escapeInJson(JSON.stringify(value))}`,
  )
  return [time, level.padEnd(5), message, ...rest].join(' ')
}

function isPlain(value: unknown): boolean {
  return typeof value === 'string' && plainWord.test(value)
}

/** Most characters of a text: a node or a caller may have written it, at any length, and it may quote a prompt. */
const maxChars = 400
/** Most characters of our own long texts, by the name of their field. */
const maxCharsOf: Readonly<Record<string, number>> = { stack: 8000, faults: 4000 }

/** Turns errors into their messages and bigints into texts, which JSON would lose or refuse. A stack is shown only as a field of its own. */
function readable(fields: LogFields): LogFields {
  let shown = fields
  for (const name in fields) {
    const value = fields[name]
    const text = readableValue(value, maxCharsOf[name] ?? maxChars)
    if (text !== value) shown = { ...shown, [name]: text }
  }
  return shown
}

function readableValue(value: unknown, limit: number): unknown {
  if (typeof value === 'string') return value.length > limit ? cut(value, limit) : value
  if (typeof value === 'bigint') return String(value)
  if (typeof value !== 'object') return value
  if (value instanceof Error) return cut(causesOf(value), limit)
  const isLong = (each: unknown) => typeof each === 'string' && each.length > limit
  return Array.isArray(value) && value.some(isLong) ? value.map((each) => readableValue(each, limit)) : value
}

function cut(text: string, limit: number): string {
  if (text.length <= limit) return text
  return `${text.slice(0, limit).toWellFormed()}… (${text.length - limit} more characters)`
}

function causesOf(error: Error): string {
  const own = 'code' in error ? `${error.message} [${String(error.code)}]` : error.message
  if (error.cause === undefined) return own
  return `${own}: ${error.cause instanceof Error ? causesOf(error.cause) : messageOf(error.cause)}`
}
