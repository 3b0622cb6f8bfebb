import { Agent } from 'node:http'
import { pause } from './storm.ts'
import { ask, type Dialect, dialects, judge, type Verdict } from './strict-answers.ts'

/** One request, as its caller saw it. Milliseconds. */
export interface Asked {
  readonly startedAt: number
  readonly ms: number
  /** Nodes tried for it: as many as may be, when the answer does not say. */
  readonly attempts: number
  readonly verdict: Verdict
  readonly path: string
  readonly stream: boolean
  /** How what it was told ends. */
  readonly lastWords: string
}

interface CallersOptions {
  readonly url: string
  readonly model: string
  /** What a streamed answer says, word by word; one that is asked for whole says the first few only. */
  readonly words: readonly string[]
  /** Nodes tried for one request at most. */
  readonly mostAttempts: number
  readonly random: () => number
}

/** Nothing of a whole answer is sent before its end: it shall be there within a second or two. */
const wordsOfWhole = 4

/** Callers of every dialect. Each sends its next request as soon as the last is answered, and checks every answer. */
export class Callers {
  readonly asked: Asked[] = []
  /** Most answers that had begun and not ended at the same moment. */
  peak = 0
  readonly #options: CallersOptions
  readonly #agent = new Agent({ keepAlive: true })
  #open = 0

  constructor(options: CallersOptions) {
    this.#options = options
  }

  /** Asks once in every dialect. */
  async askAll(): Promise<void> {
    await Promise.all(dialects.map((dialect) => this.#ask(dialect, true)))
  }

  /** One caller, from a random moment within `rampMs` until `signal` aborts; resolves after its last answer. */
  async keepAsking(stream: boolean, rampMs: number, signal: AbortSignal): Promise<void> {
    const { random } = this.#options
    await pause(rampMs * random())
    while (!signal.aborted)
      await this.#ask(dialects[Math.floor(random() * dialects.length)] as Dialect, stream)
  }

  /** Closes the connections they kept. */
  close(): void {
    this.#agent.destroy()
  }

  async #ask(dialect: Dialect, stream: boolean): Promise<void> {
    const { url, model, words, mostAttempts } = this.#options
    const question = { model, stream, words: stream ? words.length : wordsOfWhole }
    const expected = words.slice(0, question.words).join('')
    const startedAt = performance.now()
    let begun = 0
    const answer = await ask(url, dialect, question, this.#agent, () => {
      begun = 1
      this.peak = Math.max(this.peak, ++this.#open)
    })
    this.#open -= begun
    this.asked.push({
      startedAt,
      ms: performance.now() - startedAt,
      attempts: answer.attempts ?? mostAttempts,
      verdict: judge(dialect, question, answer, expected),
      path: dialect.path,
      stream,
      lastWords: answer.text.slice(-200),
    })
  }
}
