import { AdminClient } from './admin-client.ts'
import type { CliContext } from './cli-context.ts'
import { CliFailure, exits } from './cli-failure.ts'
import { Terminal } from './terminal/terminal.ts'

/** Options of every command; they may stand anywhere on the command line. */
export interface GlobalOptions {
  readonly adminUrl?: string
  readonly color: boolean
}

/** The run of one command line: what all commands share. */
export class Invocation {
  readonly context: CliContext
  readonly terminal: Terminal
  readonly #globals: () => GlobalOptions

  /** @param globals read on first use, because they are known only after the command line is parsed. */
  constructor(context: CliContext, globals: () => GlobalOptions) {
    this.context = context
    this.terminal = new Terminal(context, () => context.colour && globals().color)
    this.#globals = globals
  }

  /** The admin API at the URL of the command line, else of the settings. @param timeoutMs of each request. */
  admin(timeoutMs: number): AdminClient {
    const { adminUrl, adminToken, clock, signal } = this.context
    const url = this.#globals().adminUrl ?? adminUrl
    return new AdminClient({ url, token: adminToken, clock, timeoutMs, signal })
  }

  /** Asks for confirmation of what cannot be undone. @throws Failure when the answer is no, or there is no terminal. */
  async consent(yes: boolean | undefined, question: () => Promise<string>): Promise<void> {
    if (yes) return
    if (!this.terminal.canAsk)
      throw new CliFailure(
        exits.usage,
        'this command needs a confirmation, and there is no terminal to ask on',
        'add --yes',
      )
    if (!(await this.terminal.confirm(await question())))
      throw new CliFailure(exits.failure, 'nothing was changed')
  }
}
