import { Refusal } from '../refusal.ts'
import { layersOf } from './layers.ts'
import type { ModelDefinition } from './model-definition.ts'
import { type ModelName, parseName } from './model-name.ts'

/** The wording of an endpoint's errors about a model's name (docs/ollama.md#answers). */
export type Wording = 'chat' | 'generate' | 'embed' | 'embeddings'

/** A model under one of its names. */
export interface Manifest {
  readonly model: ModelDefinition
  /** When it was pulled, created or copied. */
  readonly modifiedAt: Date
}

/** The models on the disk of one node, by name. */
export class Shelf {
  readonly #manifests = new Map<string, Manifest>()

  constructor(models: readonly ModelDefinition[], modifiedAt: Date) {
    for (const model of models) this.put(model, modifiedAt)
  }

  /** The newest first. */
  get manifests(): readonly Manifest[] {
    return [...this.#manifests.values()].toSorted((a, b) => b.modifiedAt.getTime() - a.modifiedAt.getTime())
  }

  /** The blobs that some manifest names. */
  get digests(): ReadonlySet<string> {
    const models = [...this.#manifests.values()].flatMap(({ model }) => layersOf(model))
    return new Set(models.map(({ digest }) => digest))
  }

  get({ key }: ModelName): Manifest | undefined {
    return this.#manifests.get(key)
  }

  /** Adds `model` under its name, in place of what had that name. */
  put(model: ModelDefinition, modifiedAt: Date): void {
    this.#manifests.set(parseName(model.name)?.key ?? model.name, { model, modifiedAt })
  }

  remove({ key }: ModelName): void {
    this.#manifests.delete(key)
  }

  /** The model that `text` names, in any case and with or without the defaults. @throws Refusal 400 or 404. */
  find(text: string, wording: Wording): ModelDefinition {
    return this.manifestOf(text, wording).model
  }

  /** Like `find`, with its date. @throws Refusal 400 or 404. */
  manifestOf(text: string, wording: Wording): Manifest {
    if (text.trim() === '') throw nameless(text, wording)
    const name = parseName(text)
    if (!name) throw new Refusal(400, 'invalid model name')
    const manifest = this.get(name)
    if (!manifest) throw new Refusal(404, absent(text, wording))
    return manifest
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
