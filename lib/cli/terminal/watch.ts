import type { Output } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import type { TableLook } from './table.ts'

/** Milliseconds between two requests. */
const lookEveryMs = 2000

/**
 * Shows a document repeatedly until Ctrl-C: redrawn in place on a terminal, one after the other elsewhere.
 */
export async function watching<T>(
  invocation: Invocation,
  look: () => Promise<T>,
  output: Output,
  view: (document: T, look: TableLook) => string,
): Promise<never> {
  const { terminal, context } = invocation
  const { clock, signal } = context
  for (;;) {
    const document = await look()
    terminal.showAgain(document, output, (look) => view(document, look))
    await clock.sleep(lookEveryMs, signal)
  }
}
