import { config, createLogger, format, type Logger, transports } from 'winston'
import { messageOf } from './errors.ts'

export const logLevels = ['error', 'warn', 'info', 'debug'] as const
export type LogLevel = (typeof logLevels)[number]
export type LogFormat = 'json' | 'text'

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

interface LogOptions {
  readonly level: LogLevel
  readonly format: LogFormat
  readonly stream?: NodeJS.WritableStream
}

/** A log of JSON lines (or short text for people) on `stream`, standard output by default. */
export function createLog({ level, format: style, stream = process.stdout }: LogOptions): Log {
  const line = style === 'json' ? format.combine(format.timestamp(), format.json()) : textFormat
  const logger: Logger = createLogger({
    level,
    levels: config.npm.levels,
    format: format.combine(readableErrors(), line),
    transports: [new transports.Stream({ stream })],
    exitOnError: false,
  })
  // A broken pipe must not end the process: whoever reads the log is gone, the traffic is not.
  stream.on('error', () => {})
  return {
    error: (message, fields) => void logger.error(message, fields),
    warn: (message, fields) => void logger.warn(message, fields),
    info: (message, fields) => void logger.info(message, fields),
    debug: (message, fields) => void logger.debug(message, fields),
  }
}

/** A log that keeps nothing, for tests and the simulator. */
export const silentLog: Log = { error() {}, warn() {}, info() {}, debug() {} }

/** An Error in the fields becomes its message and code: its own properties are not enumerable, and stacks are for debug. */
const readableErrors = format((info) => {
  for (const [name, value] of Object.entries(info)) {
    if (value instanceof Error) info[name] = causesOf(value)
  }
  return info
})

function causesOf(error: Error): string {
  const own = 'code' in error ? `${error.message} [${String(error.code)}]` : error.message
  return error.cause === undefined
    ? own
    : `${own}: ${error.cause instanceof Error ? causesOf(error.cause) : messageOf(error.cause)}`
}

const textFormat = format.printf(({ level, message, ...fields }) => {
  const time = new Date().toTimeString().slice(0, 8)
  const rest = Object.entries(fields).map(
    ([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  return [time, level.padEnd(5), message, ...rest].join(' ')
})
