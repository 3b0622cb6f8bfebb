import type { Writable } from 'node:stream'
import { config, createLogger, format } from 'winston'
import Transport from 'winston-transport'
import type { LogFields, LogFormat, LogLevel, ProcessLog } from './log.ts'
import { jsonLine, type LogEvent, textLine } from './log-lines.ts'

interface LogOptions {
  readonly level: LogLevel
  readonly format: LogFormat
  readonly stream?: Writable
  /** Whether the stream goes to systemd's journal, which then learns the level of each line. */
  readonly journal?: boolean
  /** Called once, with the first error of the stream. */
  readonly lost?: (error: Error) => void
}

/** How a line tells the journal its priority (sd-daemon(3)): otherwise every line would be "info" there. */
const priorities: Readonly<Record<LogLevel, string>> = {
  error: '<3>',
  warn: '<4>',
  info: '<6>',
  debug: '<7>',
}

/** The prefix of a line that goes to the journal. */
export function priorityOf(level: LogLevel): string {
  return priorities[level]
}

const asJson = format.printf((info) => jsonLine(eventOf(info)))
const asText = format.printf((info) => textLine(eventOf(info)))

/**
 * A log of JSON lines (or short text for people) on `stream`, standard output by default. This is the only file that imports
 * winston (docs/decisions/0004-winston-with-one-transport.md).
 */
export function createLog(options: LogOptions): ProcessLog {
  const { level, format: style, stream = process.stdout, journal = false, lost } = options
  const { levels } = config.npm
  const lineFormat = style === 'json' ? asJson : asText
  const lines = new LineTransport(stream, journal ? priorityOf : () => '')
  const logger = createLogger({ level, levels, format: lineFormat, transports: [lines] })
  // A line goes to the transports without the two streams that winston puts in between: they cost as much as the rest of
  // the line, at every request, and are not needed, since this transport drops lines instead of pushing back.
  const write =
    (of: LogLevel) =>
    (message: string, fields: LogFields = {}) => {
      if ((levels[of] ?? 0) > (levels[level] ?? 0)) return
      const line = lineFormat.transform({ level: of, message, fields })
      for (const transport of logger.transports) transport.log?.(line, ignored)
    }
  // A broken pipe must not end the process: the log has lost its reader, requests still come.
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
        // Every line is in the stream now, and the stream writes in order.
        if (stream.writableLength === 0) resolve()
        else stream.write('', () => resolve())
      }),
  }
}

function eventOf({ level, message, fields }: Record<string, unknown>): LogEvent {
  return { level: level as LogLevel, message: message as string, fields: fields as LogFields }
}

const ignored = () => {}

/** Bytes of log that may wait for a stuck reader; beyond them lines are dropped and counted. */
const maxBacklogBytes = 8 * 1024 * 1024
/** Milliseconds a line may wait in the process. */
const batchMs = 5
/** Characters of lines that wait together. */
const maxBatch = 64 * 1024
/** Where winston's formats leave the finished line. */
const lineOf = Symbol.for('message')

/** winston's own transports schedule one event per line, and llamero has no listener for it. */
class LineTransport extends Transport {
  readonly #stream: Writable
  /** Lines of the next write: at a thousand requests a second, one write per line takes a third of the cost of a line. */
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
      // The timer keeps the process alive until the lines are written.
      if (this.#batch === '') setTimeout(() => this.send(), batchMs)
      if (this.#dropped > 0) this.#batch += `${this.#prefix('warn')}${this.#gap()}\n`
      this.#dropped = 0
      this.#batch += `${this.#prefix(info.level)}${info[lineOf]}\n`
    }
    // Errors and warnings must not be lost when the process dies of what they tell.
    const isUrgent = info.level === 'error' || info.level === 'warn'
    if (isUrgent || this.#batch.length > maxBatch) this.send()
    done()
  }

  /** Hands the waiting lines to the stream. */
  send(): void {
    if (this.#batch !== '') this.#stream.write(this.#batch)
    this.#batch = ''
  }

  #gap(): string {
    const timestamp = new Date().toISOString()
    return JSON.stringify({ timestamp, level: 'warn', message: 'log lines dropped', lines: this.#dropped })
  }
}
