import { createInterface } from 'node:readline'
import type { CliContext } from '../cli-context.ts'
import type { Output } from '../command-options.ts'
import { jsonText, yamlText } from '../output-text.ts'
import { cutTo } from './columns.ts'
import type { Screen } from './progress-bars.ts'
import { printable, type TableLook } from './table.ts'

const eraseLine = '\r\u001b[K'
const eraseBelow = '\u001b[J'
const clearScreen = '\u001b[H\u001b[2J'

/** The output streams of a command: data goes to stdout, messages for people to stderr. */
export class Terminal {
  readonly #context: CliContext
  readonly #colour: () => boolean
  #progressShown = false
  /** Lines above the cursor that the next ones replace. */
  #drawn = 0

  /** @param colour read on every write: `--no-color` is known only after the command line is parsed. */
  constructor(context: CliContext, colour: () => boolean) {
    this.#context = context
    this.#colour = colour
  }

  /** Writes an answer in the output format of the command line: the document itself, or the view for people. */
  show(document: unknown, output: Output, view: (look: TableLook) => string): void {
    this.#context.stdout.write(this.#render(document, output, view))
  }

  /**
   * The same for a watched document: on a terminal it replaces the last version, elsewhere it follows it. Each view for
   * people starts with its time; JSON is one document per line, YAML a stream of documents.
   */
  showAgain(document: unknown, output: Output, view: (look: TableLook) => string): void {
    const { stdout, clock } = this.#context
    if (output === 'json') stdout.write(`${jsonText(document)}\n`)
    else if (output === 'yaml') stdout.write(`---\n${yamlText(document)}`)
    else {
      const head = `${stdout.isTTY ? clearScreen : ''}${clock.date().toISOString()}\n`
      stdout.write(`${head}${this.#render(document, output, view)}\n`)
    }
  }

  /** The text of a document: unchanged into a file or a pipe, without control characters on a terminal. */
  write(text: string): void {
    const { stdout } = this.#context
    stdout.write(stdout.isTTY ? text.split('\n').map(printable).join('\n') : text)
  }

  print(text: string): void {
    this.#context.stdout.write(`${text}\n`)
  }

  /** One sentence, and if given the next command to try. */
  say(text: string, hint?: string): void {
    this.endProgress()
    this.#context.stderr.write(`${printable(text)}\n${hint ? `  hint: ${printable(hint)}\n` : ''}`)
  }

  /** What a command waits for: one line that is redrawn on a terminal, one line per change elsewhere. */
  progress(text: string): void {
    const { stderr } = this.#context
    const line = printable(text)
    stderr.write(stderr.isTTY ? `${eraseLine}${cutTo((stderr.columns ?? 80) - 1, line)}` : `${line}\n`)
    this.#progressShown = true
  }

  /** The size of the terminal on which lines can be redrawn; null when stderr is no terminal. */
  get screen(): Screen | null {
    const { isTTY, columns = 80, rows = 24 } = this.#context.stderr
    return isTTY ? { columns, rows } : null
  }

  /** Replaces the lines drawn before. The lines must fit the `screen` in width and height. */
  redraw(lines: readonly string[]): void {
    const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A` : ''
    const text = lines.map((line) => `${eraseLine}${printable(line)}\n`).join('')
    this.#context.stderr.write(`${up}${text}${eraseBelow}`)
    this.#drawn = lines.length
    this.#progressShown = true
  }

  get canAsk(): boolean {
    return this.#context.stdin.isTTY === true && this.#context.stderr.isTTY === true
  }

  /** Asks a yes/no question. Any answer but yes, and the end of the input, means no. */
  async confirm(question: string): Promise<boolean> {
    const { stdin, stderr, signal } = this.#context
    stderr.write(`${printable(question)} [y/N] `)
    // Not a raw terminal: Ctrl-C must reach the process as SIGINT.
    const lines = createInterface({ input: stdin, terminal: false, signal })
    for await (const line of lines) {
      lines.close()
      return /^y(es)?$/i.test(line.trim())
    }
    stderr.write('\n')
    signal.throwIfAborted()
    return false
  }

  #render(document: unknown, output: Output, view: (look: TableLook) => string): string {
    if (output === 'json') return `${jsonText(document, 2)}\n`
    if (output === 'yaml') return yamlText(document)
    const { stdout } = this.#context
    return view({
      wide: output === 'wide',
      colour: this.#colour(),
      width: stdout.isTTY ? (stdout.columns ?? null) : null,
    })
  }

  /** Ends the progress line. */
  endProgress(): void {
    if (this.#progressShown && this.#context.stderr.isTTY) this.#context.stderr.write(eraseLine)
    this.#progressShown = false
    this.#drawn = 0
  }
}
