import type { Writable } from 'node:stream'
import { config, createLogger, format } from 'winston'
import Transport from 'winston-transport'
import { messageOf } from './errors.ts'
import type { LogFormat, LogLevel } from './log-levels.ts'
import { escapeInJson } from './steering.ts'

type Fields = Readonly<Record<string, unknown>>

/**
 * One constant sentence and its fields per line; never a prompt, a completion or a key.
 * error: someone must act; warn: degraded; info: state changed; debug: the rest.
 */
export interface Log {
  error(message: string, fields?: Fields): void
  warn(message: string, fields?: Fields): void
  info(message: string, fields?: Fields): void
  debug(message: string, fields?: Fields): void
}

/** The log of a process, which must not end before its lines are with their reader. */
export interface ProcessLog extends Log {
  /** Resolves when every line so far has left the process, or can never leave it. A reader who is stuck keeps it waiting. */
  flush(): Promise<void>
}

interface LogOptions {
  readonly level: LogLevel
  readonly format: LogFormat
  readonly stream?: Writable
  /** Whether the stream goes to systemd's journal, which then learns the level of each line. */
  readonly journal?: boolean
  /** Called once, with the first error of the stream. */
  readonly lost?: (error: Error) => void
}

/** How a line tells the journal its priority (sd-daemon(3)): else everything would be "info" there. */
const priorities: Readonly<Record<LogLevel, string>> = {
  error: '<3>',
  warn: '<4>',
  info: '<6>',
  debug: '<7>',
}

/** What a line that goes to the journal begins with. */
export function priorityOf(level: LogLevel): string {
  return priorities[level]
}

/** A log of JSON lines (or short text for people) on `stream`, standard output by default. */
export function createLog(options: LogOptions): ProcessLog {
  const { level, format: style, stream = process.stdout, journal = false, lost } = options
  const { levels } = config.npm
  const lineFormat = style === 'json' ? jsonFormat : textFormat
  const lines = new LineTransport(stream, journal ? priorityOf : () => '')
  const logger = createLogger({ level, levels, format: lineFormat, transports: [lines] })
  // A line goes to the transports without the two streams that winston puts in between: they cost as much as the rest of
  // it, at every request, and wait for nothing, since this transport drops and never pushes back.
  const write =
    (of: LogLevel) =>
    (message: string, fields: Fields = {}) => {
      if ((levels[of] ?? 0) > (levels[level] ?? 0)) return
      const line = lineFormat.transform({ level: of, message, fields })
      for (const transport of logger.transports) transport.log?.(line, ignored)
    }
  // A broken pipe must not end the process: whoever reads the log is gone, the traffic is not.
  let isLost = false
  stream.on('error', (error) => {
    if (!isLost) lost?.(error)
    isLost = true
  })
  return {
    error: write('error'),
    warn: write('warn'),
    info: write('info'),
    debug: write('debug'),
    flush: () =>
      new Promise((resolve) => {
        lines.send()
        // What waits now, waits in the stream, and is written in order.
        if (stream.writableLength === 0) resolve()
        else stream.write('', () => resolve())
      }),
  }
}

/** A log that keeps nothing, for tests and the simulator. */
export const silentLog: Log = { error() {}, warn() {}, info() {}, debug() {} }

/** Bytes of log that may wait for a reader who is stuck; beyond them lines are dropped and counted. */
const maxBacklogBytes = 8 * 1024 * 1024
/** Milliseconds a line may wait in the process. */
const batchMs = 5
/** Characters of lines that wait together. */
const maxBatch = 64 * 1024
/** Where winston's formats leave the finished line. */
const lineOf = Symbol.for('message')

/** winston's own transports schedule an event of their own for every line, which nobody here listens to. */
class LineTransport extends Transport {
  readonly #stream: Writable
  /** Lines that wait for company: at a thousand requests a second, writing each alone costs a third of its price. */
  #batch = ''
  #dropped = 0
  readonly #prefix: (level: LogLevel) => string

  constructor(stream: Writable, prefix: (level: LogLevel) => string) {
    super()
    this.#stream = stream
    this.#prefix = prefix
  }

  override log(info: Record<symbol, string> & { readonly level: LogLevel }, done: () => void): void {
    if (this.#stream.writableLength > maxBacklogBytes) this.#dropped++
    else {
      // The process stays alive for the lines that wait.
      if (this.#batch === '') setTimeout(() => this.send(), batchMs)
      if (this.#dropped > 0) this.#batch += `${this.#prefix('warn')}${this.#gap()}\n`
      this.#dropped = 0
      this.#batch += `${this.#prefix(info.level)}${info[lineOf]}\n`
    }
    // What someone must see must not be lost with a process that dies of it.
    const isUrgent = info.level === 'error' || info.level === 'warn'
    if (isUrgent || this.#batch.length > maxBatch) this.send()
    done()
  }

  /** Hands what waits to the stream. */
  send(): void {
    if (this.#batch !== '') this.#stream.write(this.#batch)
    this.#batch = ''
  }

  #gap(): string {
    const timestamp = new Date().toISOString()
    return JSON.stringify({ timestamp, level: 'warn', message: 'log lines dropped', lines: this.#dropped })
  }
}

const ignored = () => {}

// The fields stay an object of their own: to copy them beside the level would cost as much as to write them.
const jsonFormat = format.printf(({ level, message, fields }) => {
  const timestamp = new Date().toISOString()
  const head = `{"timestamp":"${timestamp}","level":"${level}","message":${JSON.stringify(message)}`
  const rest = escapeInJson(JSON.stringify(readable(fields as Fields)))
  return rest === '{}' ? `${head}}` : `${head},${rest.slice(1)}`
})

/** Printable ASCII without spaces, quotes, backslashes and equal signs. */
const plainWord = /^[!#-<>-[\]-~]+$/

const textFormat = format.printf(({ level, message, fields }) => {
  const time = new Date().toTimeString().slice(0, 8)
  const told = Object.entries(readable(fields as Fields)).filter(([, value]) => value !== undefined)
  const rest = told.map(
    // One line per event, no field that another's value makes up, and no terminal codes: what is no plain word is quoted.
    ([name, value]) =>
      `${name}=${typeof value === 'string' && plainWord.test(value) ? value : escapeInJson(JSON.stringify(value))}`,
  )
  return [time, level.padEnd(5), message, ...rest].join(' ')
})

/** Characters of a text: a node or a caller may have written it, at any length, and may quote a prompt. */
const maxChars = 400
/** The same for texts of our own that are long: by the name of their field. */
const maxCharsOf: Readonly<Record<string, number>> = { stack: 8000, faults: 4000 }

/** With the message of an Error, and bigints, which JSON would lose or refuse. A stack is told only as a field of its own. */
function readable(fields: Fields): Fields {
  let told = fields
  for (const name in fields) {
    const value = fields[name]
    const text = readableValue(value, maxCharsOf[name] ?? maxChars)
    if (text !== value) told = { ...told, [name]: text }
  }
  return told
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
