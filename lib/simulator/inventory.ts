import { jsonType, jsonUtf8Type, stamp } from './dialect.ts'
import { Fields } from './json.ts'
import type { Exchange, Machine } from './machine.ts'
import type { ModelDefinition } from './models.ts'
import { parseName } from './names.ts'
import { Refusal } from './refusal.ts'
import type { Runner } from './runner.ts'

const bytesPerMiB = 1024 * 1024
/** Go's longest duration: a keep-alive for ever ends in the year 2318 (ollama-api.md §2.5). */
const foreverMs = 9_223_372_036_854

/** `GET /`, the heartbeat of the command line client. */
export function heartbeat(_machine: Machine, { reply }: Exchange): Promise<void> {
  return reply.whole(200, { type: 'text/plain; charset=utf-8', text: 'Ollama is running' })
}

export function version(machine: Machine, exchange: Exchange): Promise<void> {
  return send(exchange, { version: machine.version })
}

/** `/api/tags`: everything on disk. */
export function tags({ shelf }: Machine, exchange: Exchange): Promise<void> {
  const modified_at = stamp(shelf.modifiedAt)
  const models = shelf.models.map((model) => ({
    name: model.name,
    model: model.name,
    modified_at,
    size: model.sizeMiB * bytesPerMiB,
    digest: model.digest,
    details: { ...detailsOf(model), context_length: model.trainCtx, embedding_length: model.embedDim },
    capabilities: model.capabilities,
  }))
  return send(exchange, { models })
}

/** `/api/ps`: what is loaded, the latest expiry first; a model that still loads is not shown (ollama-api.md §2.5). */
export function ps({ clock, scheduler }: Machine, exchange: Exchange): Promise<void> {
  const now = clock.now()
  const date = clock.date().getTime()
  const models = scheduler.runners
    .toSorted((a, b) => Math.min(b.expiresAt, foreverMs) - Math.min(a.expiresAt, foreverMs))
    .map((runner) => loadedModel(runner, new Date(date + Math.min(runner.expiresAt - now, foreverMs))))
  return send(exchange, { models })
}

/** The model a body of `/api/show` names. @throws Refusal 400. */
export function readShow(body: unknown): string {
  const fields = new Fields(body, 'ShowRequest')
  const model = fields.text('model') || fields.text('name')
  if (model === '') throw new Refusal(400, 'model is required')
  return model
}

/** `/api/show`. The template and the Modelfile say what this is. */
export function show({ shelf }: Machine, exchange: Exchange, name: string): Promise<void> {
  const model = shelf.find(name, 'chat')
  return send(exchange, {
    modelfile: `# simulated: there are no weights\nFROM ${model.name}\n`,
    template: '{{ .Prompt }}',
    details: detailsOf(model),
    model_info: {
      'general.architecture': model.family,
      [`${model.family}.context_length`]: model.trainCtx,
      [`${model.family}.embedding_length`]: model.embedDim,
    },
    capabilities: model.capabilities,
    modified_at: stamp(shelf.modifiedAt),
  })
}

/** `/v1/models`: `data` is null when there are none. */
export function modelList({ shelf }: Machine, exchange: Exchange): Promise<void> {
  const created = Math.floor(shelf.modifiedAt.getTime() / 1000)
  const data = shelf.models.map(({ name }) => ({
    id: name,
    object: 'model',
    created,
    owned_by: parseName(name)?.namespace,
  }))
  const text = `${JSON.stringify({ object: 'list', data: data.length === 0 ? null : data })}\n`
  return exchange.reply.whole(200, { type: jsonType, text })
}

function loadedModel(runner: Runner, expiresAt: Date) {
  const { model, sizeMiB, vramMiB, ctx } = runner.shape
  return {
    name: model.name,
    model: model.name,
    size: Math.round(sizeMiB * bytesPerMiB),
    digest: model.digest,
    details: detailsOf(model),
    expires_at: stamp(expiresAt),
    size_vram: Math.round(vramMiB * bytesPerMiB),
    context_length: ctx,
  }
}

/** `format` is where nobody can take the model for a real one. */
function detailsOf(model: ModelDefinition) {
  return {
    parent_model: '',
    format: 'simulated',
    family: model.family,
    families: [model.family],
    parameter_size: model.parameterSize,
    quantization_level: model.quant,
  }
}

function send({ reply }: Exchange, value: unknown): Promise<void> {
  return reply.whole(200, { type: jsonUtf8Type, text: JSON.stringify(value) })
}
