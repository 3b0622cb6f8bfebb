import { randomUUID } from 'node:crypto'
import type { InstanceRecord, LoadSummary, Question } from '../../fleet/instance.ts'
import type { Clock } from '../../shared/clock.ts'

interface InquiryOptions {
  /** Id of this instance. */
  readonly id: string
  readonly clock: Clock
  readonly instances: () => readonly InstanceRecord[]
  /** Publishes the record of this instance, which holds the question, now. */
  readonly publish: () => void
}

/** The nodes that each other instance reaches; instances that have not answered are missing. */
export type Answers = ReadonlyMap<string, ReadonlySet<string>>

interface Asked extends Question {
  readonly answers: Map<string, ReadonlySet<string>>
  readonly promise: Promise<Answers>
  readonly resolve: (answers: Answers) => void
}

/** Milliseconds in which the others must see the question, probe the nodes and publish their answers. */
const patienceMs = 5000

/**
 * Asks the other instances which nodes they reach. An instance alone cannot tell nodes that are down from a broken network of
 * its own. It writes the question into its record; the others write their answers into their load summaries, see Respondent.
 */
export class Inquiry {
  readonly #options: InquiryOptions
  #asked: Asked | null = null

  constructor(options: InquiryOptions) {
    this.#options = options
  }

  /** The open question, for the record of this instance. */
  get question(): Question | null {
    if (!this.#asked) return null
    const { id, nodes, answered } = this.#asked
    return { id, nodes, ...(answered && { answered }) }
  }

  /** Whether a question waits for its answers. There is one question at a time. */
  get isAsking(): boolean {
    return this.#asked !== null
  }

  /**
   * Resolves to the answers once every other instance has answered, at the latest 5 s after the question was published.
   *
   * @param answered whether a node counts as reached only when it answered.
   */
  async ask(nodes: readonly string[], { answered = false } = {}): Promise<Answers> {
    while (this.#asked) await this.#asked.promise
    if (this.#others().length === 0) return new Map()
    const { promise, resolve } = Promise.withResolvers<Answers>()
    const question = { id: randomUUID(), nodes, ...(answered && { answered }) }
    this.#asked = { ...question, answers: new Map(), promise, resolve }
    const cancel = this.#options.clock.after(patienceMs, () => this.#end())
    this.#options.publish()
    return promise.finally(cancel)
  }

  /** Reads the load summary of another instance. Returns the nodes that it reaches, if it answers the open question. */
  observe(id: string, load: LoadSummary | null): ReadonlySet<string> {
    const asked = this.#asked
    const answer = load?.answers?.[this.#options.id]
    if (!asked || answer?.question !== asked.id || asked.answers.has(id)) return new Set()
    const reached = new Set(answer.reached)
    asked.answers.set(id, reached)
    if (this.#others().every((other) => asked.answers.has(other))) this.#end()
    return reached
  }

  #others(): string[] {
    const { id: own, instances } = this.#options
    return instances().flatMap(({ id }) => (id === own ? [] : [id]))
  }

  #end(): void {
    const asked = this.#asked
    if (!asked) return
    this.#asked = null
    this.#options.publish()
    asked.resolve(asked.answers)
  }
}
