import { jsonUtf8Type } from '../dialects/dialect.ts'
import { nativeErrors } from '../dialects/native.ts'
import { goJson } from '../json.ts'
import { Refusal } from '../refusal.ts'
import type { NodeReply } from '../reply.ts'

/** One line of a progress stream; zeros are left out, as Go does. */
interface ProgressLine {
  readonly status: string
  readonly digest?: string
  readonly total?: number
  readonly completed?: number
}

/** How often a transfer reports, in milliseconds. */
export const tickMs = 60

/**
 * The answer of a long job (docs/ollama.md#model-management): NDJSON. After its first line a failure
 * is a line too, under status 200. With `stream: false` the answer is the last line alone, and a failure is a 500.
 */
export class Progress {
  readonly #reply: NodeReply
  readonly #isStream: boolean
  #last = ''

  constructor(reply: NodeReply, isStream: boolean) {
    this.#reply = reply
    this.#isStream = isStream
  }

  async say(status: string, transfer: Omit<ProgressLine, 'status'> = {}): Promise<void> {
    const line: ProgressLine = { status, ...transfer }
    this.#last = goJson({ ...line, completed: line.completed || undefined, total: line.total || undefined })
    if (this.#isStream) await this.#write(this.#last)
  }

  /** Runs the job to its end and reports the result. @throws Refusal when it failed before its first line. */
  async run(job: () => Promise<void>): Promise<void> {
    try {
      await job()
    } catch (error) {
      if (!(error instanceof Refusal) || !this.#reply.begun) throw error
      await this.#write(nativeErrors.late(error.status, error.message, true).text)
      return this.#reply.end()
    }
    if (this.#isStream) this.#reply.end()
    else await this.#reply.whole(200, { type: jsonUtf8Type, text: this.#last })
  }

  async #write(line: string): Promise<void> {
    if (!this.#reply.begun) this.#reply.open(200, 'application/x-ndjson')
    await this.#reply.chunk(`${line}\n`)
  }
}
