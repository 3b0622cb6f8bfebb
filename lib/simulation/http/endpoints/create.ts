import { blobPath } from '../disk/blobs.ts'
import { bytesPerMiB, layersOf, manifestDigest, textLayer } from '../disk/layers.ts'
import { aModel, type Layer, type ModelDefinition } from '../disk/model-definition.ts'
import { type ModelName, parseName } from '../disk/model-name.ts'
import { Fields } from '../json.ts'
import type { Machine, NodeExchange } from '../machine.ts'
import { Refusal } from '../refusal.ts'
import { Progress } from './progress.ts'
import { dropUnused, fetchModel } from './transfer.ts'

interface CreateRequest {
  readonly name: ModelName
  /** Empty when the model is made from files. */
  readonly from: string
  /** Digests by file name. */
  readonly files: ReadonlyMap<string, string>
  /** What is laid on top of the base. */
  readonly texts: Partial<Record<'system' | 'template' | 'license' | 'parameters', string>>
  readonly stream: boolean
}

/** The body of `/api/create`. @throws Refusal 400. */
export function readCreate(body: unknown): CreateRequest {
  const fields = new Fields(body, 'CreateRequest')
  const name = parseName(fields.text('model') || fields.text('name'))
  if (!name) throw new Refusal(400, 'invalid model name')
  const files = filesOf(fields.record('files'))
  const from = fields.text('from')
  if (from === '' && files.size === 0) throw new Refusal(400, "neither 'from' or 'files' was specified")
  const texts = {
    system: fields.text('system'),
    template: fields.text('template'),
    license: licenseOf(fields.raw('license')),
    parameters: parametersOf(fields.record('parameters')),
  }
  const given = Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== ''))
  return { name, from, files, texts: given, stream: fields.flag('stream') ?? true }
}

/** `/api/create`: only blobs on this node's disk count (docs/ollama.md#model-management). */
export async function create(machine: Machine, exchange: NodeExchange, ask: CreateRequest): Promise<void> {
  const progress = new Progress(exchange.reply, ask.stream)
  await progress.run(async () => {
    const base = ask.from
      ? await baseOf(machine, exchange, ask, progress)
      : await filed(machine, ask, progress)
    const model = modelled(base, ask)
    for (const layer of layersOf(model)) {
      const isThere = machine.blobs.has(layer.digest)
      await progress.say(`${isThere ? 'using existing layer' : 'creating new layer'} ${layer.digest}`)
    }
    machine.blobs.add(layersOf(model).filter(({ digest }) => !machine.blobs.has(digest)))
    await progress.say('writing manifest')
    const replaced = machine.shelf.get(ask.name)
    machine.shelf.put(model, machine.clock.date())
    if (replaced) dropUnused(machine, replaced.model)
    await progress.say('success')
  })
}

/** A base that is not on the disk is pulled first, lines and `success` of the pull included. */
async function baseOf(
  machine: Machine,
  exchange: NodeExchange,
  { from }: CreateRequest,
  progress: Progress,
): Promise<ModelDefinition> {
  const name = parseName(from)
  if (!name) throw new Refusal(400, 'invalid model name')
  if (!machine.shelf.get(name)) await fetchModel(machine, exchange, name, progress)
  const model = machine.shelf.find(from, 'chat')
  return { ...model, parent: model.name }
}

async function filed({ blobs }: Machine, ask: CreateRequest, progress: Progress): Promise<ModelDefinition> {
  const stored = [...ask.files].map(([file, digest]) => {
    const blob = blobs.get(digest)
    if (!blob && !/\.(gguf|safetensors)$/.test(file)) throw new Refusal(400, 'unknown type')
    if (!blob) throw new Refusal(500, `open ${blobPath(digest)}: no such file or directory`)
    if (!blob.isGguf && !file.endsWith('.safetensors')) throw new Refusal(400, 'unknown type')
    return { digest, blob }
  })
  const isGguf = stored.every(({ blob }) => blob.isGguf)
  await progress.say(isGguf ? 'parsing GGUF' : 'converting model')
  const layers = stored.map(({ digest, blob }): Layer => ({ kind: 'model', digest, bytes: blob.bytes }))
  const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0)
  return aModel({ name: ask.name.short, sizeMiB: bytes / bytesPerMiB, layers })
}

/** The base under the new name with the texts laid on top; its digest follows from its layers. */
function modelled(base: ModelDefinition, { name, texts }: CreateRequest): ModelDefinition {
  const added = Object.entries(texts).map(([kind, text]) => textLayer(kindOf(kind), text))
  const kinds = new Set<Layer['kind']>([...added.map(({ kind }) => kind), 'config'])
  const kept = layersOf(base).filter(({ kind }) => !kinds.has(kind))
  const body = [...kept, ...added]
  const config = textLayer('config', JSON.stringify({ family: base.family, layers: body }))
  const layers = [...body, config]
  return { ...base, ...texts, name: name.short, layers, digest: manifestDigest(layers) }
}

function kindOf(text: string): Layer['kind'] {
  if (text === 'parameters') return 'params'
  return text === 'system' || text === 'template' ? text : 'license'
}

function filesOf(record: Readonly<Record<string, unknown>>): Map<string, string> {
  const files = new Map<string, string>()
  for (const [file, digest] of Object.entries(record)) {
    if (file.startsWith('/') || file.split('/').includes('..')) {
      throw new Refusal(400, 'file path must be relative')
    }
    if (typeof digest !== 'string' || !/^sha256:[0-9a-f]{64}$/.test(digest)) {
      throw new Refusal(400, 'invalid digest format')
    }
    files.set(file, digest)
  }
  return files
}

function licenseOf(value: unknown): string {
  const texts = Array.isArray(value) ? value : [value]
  return texts.filter((text) => typeof text === 'string').join('\n')
}

/** As `/api/show` prints them: the name in 30 columns, then the value; a list takes a line for each. */
function parametersOf(record: Readonly<Record<string, unknown>>): string {
  const lines = Object.entries(record).flatMap(([name, value]) =>
    [value].flat().map((one) => `${name.padEnd(30)} ${JSON.stringify(one)}`),
  )
  return lines.join('\n')
}
