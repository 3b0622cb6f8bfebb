import { AdminClient } from './admin-client.ts'
import type { CliContext } from './context.ts'
import { CliFailure, exits } from './failure.ts'
import { Terminal } from './terminal/terminal.ts'

/** Options that every command knows, wherever on the line they stand. */
export interface GlobalOptions {
  readonly adminUrl?: string
  readonly color: boolean
}

/** One command line being run: what the commands share. */
export class Invocation {
  readonly context: CliContext
  readonly terminal: Terminal
  readonly #globals: () => GlobalOptions

  /** @param globals read when first needed: they are known only once the command line is parsed. */
  constructor(context: CliContext, globals: () => GlobalOptions) {
    this.context = context
    this.terminal = new Terminal(context, () => context.colour && globals().color)
    this.#globals = globals
  }

  /** The admin API where the command line, or else the settings, say it is. @param timeoutMs for each request. */
  admin(timeoutMs: number): AdminClient {
    const { adminUrl, adminToken, clock, signal } = this.context
    const url = this.#globals().adminUrl ?? adminUrl
    return new AdminClient({ url, token: adminToken, clock, timeoutMs, signal })
  }

  /** Asks before what cannot be undone. @throws Failure when the answer is no, or nobody is there to answer. */
  async consent(yes: boolean | undefined, question: () => Promise<string>): Promise<void> {
    if (yes) return
    if (!this.terminal.canAsk)
      throw new CliFailure(exits.usage, 'no terminal to ask for confirmation on', 'add --yes')
    if (!(await this.terminal.confirm(await question())))
      throw new CliFailure(exits.failure, 'nothing was changed')
  }
}
