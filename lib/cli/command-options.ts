import { type Command, InvalidArgumentError, Option } from 'commander'
import { formatDuration, parseDuration } from '../shared/duration.ts'

const outputs = ['table', 'wide', 'json', 'yaml'] as const
export type Output = (typeof outputs)[number]

/** Options of a command that asks the admin API for a document and prints it. */
export interface RequestOptions {
  readonly output: Output
  /** Time limit of a request in milliseconds. */
  readonly timeout: number
}

/** Adds `-o` to a command that prints data. */
export function withOutput(command: Command): Command {
  return command.addOption(
    new Option('-o, --output <format>', 'output format').choices(outputs).default('table'),
  )
}

/** Default time limit of a request to the admin API, in milliseconds. */
export const requestTimeoutMs = 10_000

/** Adds `--timeout` to a command that sends requests to the admin API. */
export function withTimeout(command: Command): Command {
  return command.addOption(timeoutOption('time limit of one request', requestTimeoutMs))
}

/** `--timeout` with a description by the command. */
export function timeoutOption(meaning: string, defaultMs: number): Option {
  return new Option('--timeout <duration>', meaning)
    .argParser(durationOption)
    .default(defaultMs, formatDuration(defaultMs))
}

/** Adds `--yes` to a command that asks for confirmation. */
export function withYes(command: Command): Command {
  return command.option('-y, --yes', 'do not ask for confirmation')
}

/** A parser of durations, to milliseconds. */
export function durationOption(text: string): number {
  const ms = parseDuration(text)
  if (ms === null || ms === 0) throw new InvalidArgumentError('Write a duration such as 10s or 1h30m.')
  return ms
}

/** A parser of numbers within bounds. */
export function numberOption(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (value >= min && value <= max) return value
    throw new InvalidArgumentError(
      max === Number.MAX_SAFE_INTEGER
        ? `Write a number from ${min}.`
        : `Write a number from ${min} to ${max}.`,
    )
  }
}

/** The text as a number, if it is one. */
export function secondsOrText(text: string): number | string {
  return text.trim() === '' || Number.isNaN(Number(text)) ? text : Number(text)
}

/** Collects an option that may be given several times. */
export function repeated(value: string, earlier: readonly string[] | undefined): string[] {
  return [...(earlier ?? []), value]
}
