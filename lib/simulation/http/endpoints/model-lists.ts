import { jsonType, jsonUtf8Type, stamp } from '../dialects/dialect.ts'
import { openaiErrors } from '../dialects/openai.ts'
import { bytesPerMiB, sizeOf } from '../disk/layers.ts'
import type { ModelDefinition } from '../disk/model-definition.ts'
import { parseName } from '../disk/model-name.ts'
import type { Manifest } from '../disk/shelf.ts'
import type { PacedRunner } from '../engine/paced-runner.ts'
import { Fields } from '../json.ts'
import type { Machine, NodeExchange } from '../machine.ts'
import { Refusal } from '../refusal.ts'

/** Go's longest duration: a keep-alive for ever ends in the year 2318 (docs/ollama.md#lists). */
const foreverMs = 9_223_372_036_854

/** `GET /`, the heartbeat of the command line client. */
export function heartbeat(_machine: Machine, { reply }: NodeExchange): Promise<void> {
  return reply.whole(200, { type: 'text/plain; charset=utf-8', text: 'Ollama is running' })
}

export function version(machine: Machine, exchange: NodeExchange): Promise<void> {
  return send(exchange, { version: machine.version })
}

/** `/api/tags`: everything on disk. */
export function tags({ shelf }: Machine, exchange: NodeExchange): Promise<void> {
  const models = shelf.manifests.map(({ model, modifiedAt }) => ({
    name: model.name,
    model: model.name,
    modified_at: stamp(modifiedAt),
    size: sizeOf(model),
    digest: model.digest,
    details: { ...detailsOf(model), context_length: model.trainCtx, embedding_length: model.embedDim },
    capabilities: model.capabilities,
  }))
  return send(exchange, { models })
}

/** `/api/ps`: what is loaded, the latest expiry first; a model that still loads is not shown (docs/ollama.md#lists). */
export function ps({ clock, runners }: Machine, exchange: NodeExchange): Promise<void> {
  const now = clock.now()
  const date = clock.date().getTime()
  const models = runners.loaded
    .toSorted((a, b) => Math.min(b.expiresAt, foreverMs) - Math.min(a.expiresAt, foreverMs))
    .map((runner) => loadedModel(runner, new Date(date + Math.min(runner.expiresAt - now, foreverMs))))
  return send(exchange, { models })
}

interface ShowRequest {
  readonly model: string
  readonly verbose: boolean
}

/** The model that a body of `/api/show` names. @throws Refusal 400. */
export function readShow(body: unknown): ShowRequest {
  const fields = new Fields(body, 'ShowRequest')
  const model = fields.text('model') || fields.text('name')
  if (model === '') throw new Refusal(400, 'model is required')
  return { model, verbose: fields.flag('verbose') ?? false }
}

/** `/api/show`. The template and the Modelfile say that the model is simulated. */
export function show({ shelf }: Machine, exchange: NodeExchange, ask: ShowRequest): Promise<void> {
  const { model, modifiedAt } = shelf.manifestOf(ask.model, 'chat')
  const { license, parameters, system, template = '{{ .Prompt }}' } = model
  return send(exchange, {
    license,
    modelfile: modelfileOf(model),
    parameters,
    template,
    system,
    details: detailsOf(model),
    model_info: modelInfoOf(model, ask, exchange),
    tensors: ask.verbose
      ? [{ name: 'token_embd.weight', type: model.quant, shape: [model.embedDim, 1] }]
      : undefined,
    capabilities: model.capabilities,
    modified_at: stamp(modifiedAt),
  })
}

function modelfileOf({ name, parent, system }: ModelDefinition): string {
  const from = `# simulated: there are no weights\nFROM ${parent ?? name}\n`
  return system === undefined ? from : `${from}SYSTEM ${system}\n`
}

/** Arrays are null unless asked for, and Copilot gets the requested name (docs/ollama.md#answers). */
function modelInfoOf(model: ModelDefinition, ask: ShowRequest, { headers }: NodeExchange) {
  const isCopilot = headers['user-agent']?.startsWith('GitHubCopilotChat/') ?? false
  return {
    'general.architecture': model.family,
    ...(isCopilot ? { 'general.basename': ask.model } : {}),
    [`${model.family}.context_length`]: model.trainCtx,
    [`${model.family}.embedding_length`]: model.embedDim,
    'tokenizer.ggml.tokens': ask.verbose ? ['<s>', '</s>'] : null,
  }
}

/** `/v1/models`: `data` is null when there are none. */
export function modelList({ shelf }: Machine, exchange: NodeExchange): Promise<void> {
  const data = shelf.manifests.map(listed)
  const text = `${JSON.stringify({ object: 'list', data: data.length === 0 ? null : data })}\n`
  return exchange.reply.whole(200, { type: jsonType, text })
}

/** `/v1/models/:model`. */
export function modelOf({ shelf }: Machine, { tail, reply }: NodeExchange): Promise<void> {
  try {
    const { model, modifiedAt } = shelf.manifestOf(tail, 'chat')
    const text = `${JSON.stringify(listed({ model: { ...model, name: tail }, modifiedAt }))}\n`
    return reply.whole(200, { type: jsonType, text })
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return reply.whole(error.status, openaiErrors.late(error.status, error.message, false))
  }
}

function listed({ model, modifiedAt }: Manifest) {
  const created = Math.floor(modifiedAt.getTime() / 1000)
  return { id: model.name, object: 'model', created, owned_by: parseName(model.name)?.namespace }
}

function loadedModel(runner: PacedRunner, expiresAt: Date) {
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

/** `format` says that the model is simulated. */
function detailsOf(model: ModelDefinition) {
  return {
    parent_model: model.parent ?? '',
    format: 'simulated',
    family: model.family,
    families: [model.family],
    parameter_size: model.parameterSize,
    quantization_level: model.quant,
  }
}

function send({ reply }: NodeExchange, value: unknown): Promise<void> {
  return reply.whole(200, { type: jsonUtf8Type, text: JSON.stringify(value) })
}
