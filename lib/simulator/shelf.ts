import type { ModelDefinition } from './models.ts'
import { parseName } from './names.ts'
import { Refusal } from './refusal.ts'

/** How an endpoint words what is wrong with a model's name (ollama-api.md §1.5). */
export type Wording = 'chat' | 'generate' | 'embed' | 'embeddings'

/** The models on the disk of one node. */
export class Shelf {
  readonly models: readonly ModelDefinition[]
  /** When they were pulled. */
  readonly modifiedAt: Date
  readonly #byKey: ReadonlyMap<string, ModelDefinition>

  constructor(models: readonly ModelDefinition[], modifiedAt: Date) {
    this.models = models
    this.modifiedAt = modifiedAt
    this.#byKey = new Map(models.map((model) => [parseName(model.name)?.key ?? model.name, model]))
  }

  /** The model that `text` names, in any case and with or without the defaults. @throws Refusal 400 or 404. */
  find(text: string, wording: Wording): ModelDefinition {
    if (text.trim() === '') throw nameless(text, wording)
    const name = parseName(text)
    if (!name) throw new Refusal(400, 'invalid model name')
    const model = this.#byKey.get(name.key)
    if (!model) throw new Refusal(404, absent(text, wording))
    return model
  }
}

function nameless(text: string, wording: Wording): Refusal {
  const isRequired = wording === 'chat' || wording === 'embeddings'
  return isRequired ? new Refusal(400, 'model is required') : new Refusal(404, `model '${text}' not found`)
}

function absent(text: string, wording: Wording): string {
  const isEmbedding = wording === 'embed' || wording === 'embeddings'
  return isEmbedding
    ? `model ${JSON.stringify(text)} not found, try pulling it first`
    : `model '${text}' not found`
}
