/** Exit codes, stable for scripts. */
export const exits = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  auth: 4,
  conflict: 5,
  invalid: 6,
  unavailable: 7,
  timedOut: 8,
  interrupted: 130,
} as const
export type Exit = (typeof exits)[keyof typeof exits]

/** A command that failed: the reason, the exit code, and if known the next command to try. */
export class CliFailure extends Error {
  override readonly name = 'Failure'
  readonly exit: Exit
  readonly hint: string | undefined

  constructor(exit: Exit, message: string, hint?: string, options?: ErrorOptions) {
    super(message, options)
    this.exit = exit
    this.hint = hint
  }
}
