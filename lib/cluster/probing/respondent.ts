import type { Contacts } from '../../fleet/contacts.ts'
import type { InstanceRecord, LoadSummary, Question } from '../../fleet/instance.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { type ProbeOnce, reaches } from './probe-once.ts'

interface RespondentOptions {
  /** Id of this instance. */
  readonly id: string
  readonly snapshot: () => Snapshot
  readonly contacts: Contacts
  readonly probe: ProbeOnce
  /** Publishes the load summary of this instance, which holds the answers, now. */
  readonly publish: () => void
}

type AnswersByAsker = NonNullable<LoadSummary['answers']>

/** The answer to a question covers so many of its nodes. */
const maxNodes = 64

/** Answers when another instance asks which nodes this instance reaches: probes each of them once. See Inquiry. */
export class Respondent {
  readonly #options: RespondentOptions
  /** The last question of each instance, by its id. */
  readonly #takenUp = new Map<string, string>()
  readonly #answers = new Map<string, AnswersByAsker[string]>()
  #stopping = new AbortController()

  constructor(options: RespondentOptions) {
    this.#options = options
  }

  /** For the load summary of this instance; null without any answer. */
  answers(): AnswersByAsker | null {
    return this.#answers.size === 0 ? null : Object.fromEntries(this.#answers)
  }

  /** Reads the record of another instance; null: it is gone. */
  observe(id: string, record: InstanceRecord | null): void {
    const question = record?.question ?? null
    if (question === null) {
      this.#takenUp.delete(id)
      this.#answers.delete(id)
      return
    }
    if (id === this.#options.id || this.#takenUp.get(id) === question.id) return
    this.#takenUp.set(id, question.id)
    void this.#answer(id, question)
  }

  /** Aborts the probes under way. */
  stop(): void {
    this.#stopping.abort()
  }

  async #answer(asker: string, { id: question, nodes: names, answered }: Question): Promise<void> {
    const { snapshot, contacts, publish } = this.#options
    const { nodes, config } = snapshot()
    const reached: string[] = []
    const look = async (name: string) => {
      const spec = nodes.get(name)?.spec
      if (!spec || spec.state === 'off') return
      const finding = await this.#options.probe(spec, config.probes.timeout, this.#stopping.signal)
      const hasAnswered = finding.kind === 'answered'
      if (hasAnswered) contacts.probed(name)
      if (hasAnswered || (!answered && reaches(finding))) reached.push(name)
    }
    await Promise.all(names.slice(0, maxNodes).map(look))
    if (this.#takenUp.get(asker) !== question) return // the question was withdrawn meanwhile
    this.#answers.set(asker, { question, reached })
    publish()
  }
}
