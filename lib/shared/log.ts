export const logLevels = ['error', 'warn', 'info', 'debug'] as const
export type LogLevel = (typeof logLevels)[number]
export type LogFormat = 'json' | 'text'

/** The fields of a line beside its sentence. */
export type LogFields = Readonly<Record<string, unknown>>

/**
 * One constant sentence and its fields per line; never a prompt, a completion or a key.
 * error: the operator must act; warn: degraded; info: state changed; debug: the rest.
 */
export interface Log {
  error(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  debug(message: string, fields?: LogFields): void
}

/** The log of a process, which must not end before its lines are read. */
export interface ProcessLog extends Log {
  /** Resolves when every line so far has left the process, or can never leave it. A stuck reader keeps it waiting. */
  flush(): Promise<void>
}

/** A log that keeps nothing, for tests and the simulator. */
export const silentLog: Log = { error() {}, warn() {}, info() {}, debug() {} }
