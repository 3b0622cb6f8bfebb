import { randomUUID } from 'node:crypto'
import type { InstanceRecord, LoadSummary, Question } from '../../fleet/instance.ts'
import type { Clock } from '../../shared/clock.ts'

interface InquiryOptions {
  /** Id of this instance. */
  readonly id: string
  readonly clock: Clock
  readonly instances: () => readonly InstanceRecord[]
  /** Publishes our record, which holds the question, now. */
  readonly publish: () => void
}

/** The nodes that each other instance reached, as far as it has answered. */
export type Answers = ReadonlyMap<string, ReadonlySet<string>>

interface Asked extends Question {
  readonly answers: Map<string, ReadonlySet<string>>
  readonly promise: Promise<Answers>
  readonly resolve: (answers: Answers) => void
}

/** Milliseconds that the others have: to see the question, to probe, and to be seen with their answers. */
const patienceMs = 5000

/**
 * Asks the other instances which nodes they reach: an instance cannot tell by itself whether the nodes are down or its own
 * way to them is. The question stands in its record, the answers in the load summaries of the others; see Respondent.
 */
export class Inquiry {
  readonly #options: InquiryOptions
  #asked: Asked | null = null

  constructor(options: InquiryOptions) {
    this.#options = options
  }

  /** For our record. */
  get question(): Question | null {
    return this.#asked && { id: this.#asked.id, nodes: this.#asked.nodes }
  }

  /** Whether a question waits for its answers: there is one at a time. */
  get isAsking(): boolean {
    return this.#asked !== null
  }

  /** Resolves to the answers once all others have given theirs, 5 s after it could be asked at the latest. */
  async ask(nodes: readonly string[]): Promise<Answers> {
    while (this.#asked) await this.#asked.promise
    if (this.#others().length === 0) return new Map()
    const { promise, resolve } = Promise.withResolvers<Answers>()
    this.#asked = { id: randomUUID(), nodes, answers: new Map(), promise, resolve }
    const cancel = this.#options.clock.after(patienceMs, () => this.#end())
    this.#options.publish()
    return promise.finally(cancel)
  }

  /** Takes note of the load summary of another instance. Returns the nodes that it says it reaches, if that answers us now. */
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
