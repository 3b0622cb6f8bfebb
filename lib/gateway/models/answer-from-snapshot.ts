import { LRUCache } from 'lru-cache'
import { namespaceOf } from '../../fleet/documents/names.ts'
import { aliasesOf } from '../../fleet/models/aliases.ts'
import type { InventoryModel } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import { viaLlamero } from '../../shared/net/via.ts'
import { compareVersions } from '../../shared/versions.ts'
import { callerPolicyOf, chooseModel, maySee } from '../admission/model-routing.ts'
import { resolve } from '../admission/resolve-model.ts'
import type { Caller } from '../http/authenticate.ts'
import { sendJson } from '../http/error-response.ts'
import type { Exchange } from '../http/exchange.ts'
import type { SnapshotResponse } from '../http/find-endpoint.ts'

type ListName = Exclude<SnapshotResponse, 'running' | 'model'>
interface List {
  /** The parts of the snapshot that the body depends on: with the same parts, the body is reused. */
  readonly basis: (snapshot: Snapshot) => readonly [object, object?]
  readonly body: (snapshot: Snapshot, caller: Caller) => string
}

const lists: Readonly<Record<ListName, List>> = {
  version: {
    basis: (snapshot) => [snapshot],
    body: (snapshot) => JSON.stringify({ version: lowestVersion(snapshot) }),
  },
  status: {
    basis: ({ config }) => [config],
    body: (snapshot, caller) => JSON.stringify({ cloud: cloudFor(caller, snapshot) }),
  },
  tags: {
    basis: ({ models, routes }) => [models, routes],
    body: (snapshot, caller) => `{"models":[${visibleModels(snapshot, caller).map(tag).join(',')}]}`,
  },
  ps: {
    basis: (snapshot) => [snapshot],
    body: (snapshot, caller) => JSON.stringify({ models: visibleLoaded(snapshot, caller) }),
  },
  models: {
    basis: ({ models, routes }) => [models, routes],
    body: (snapshot, caller) => {
      const models = visibleModels(snapshot, caller).map((model) =>
        openaiModel(model.shown ?? model.name, model),
      )
      // As in Ollama: null, not an empty list (docs/ollama.md#answers).
      return JSON.stringify({ object: 'list', data: models.length > 0 ? models : null })
    },
  },
}

/** By list and rights. */
type Bodies = LRUCache<string, Buffer>

/** Bodies by basis: polling clients ask every few seconds. */
const cache = new WeakMap<object, WeakMap<object, Bodies>>()
/** Kept bodies per basis. Each may be megabytes, and there may be as many rights as keys. */
const maxKept = 16

/** Answers a request from the snapshot. @throws ProxyError those of `chooseModel`, for a single model. */
export async function answerFromSnapshot(
  snapshot: Snapshot,
  name: SnapshotResponse,
  exchange: Exchange,
  caller: Caller,
): Promise<void> {
  const headers = { 'x-request-id': exchange.publicId, via: viaLlamero }
  if (name === 'running') {
    exchange.response.writeHead(200, {
      'content-type': 'text/plain; charset=utf-8',
      'content-length': 17,
      ...headers,
    })
    exchange.response.end(exchange.request.method === 'HEAD' ? undefined : 'Ollama is running')
  } else {
    const body = name === 'model' ? oneModel(snapshot, exchange, caller) : listed(snapshot, name, caller)
    sendJson(exchange.response, 200, body, headers)
  }
  exchange.trace.outcome = 'ok'
}

function listed(snapshot: Snapshot, name: ListName, caller: Caller): Buffer {
  const list = lists[name]
  const kept = keptFor(list.basis(snapshot))
  // The tenant matters only for routes that make aliases.
  const tenant = aliasesOf(snapshot.routes).length > 0 ? caller.tenant : ''
  const key = `${name} ${JSON.stringify([caller.models, caller.options, tenant])}`
  const body = kept.get(key) ?? Buffer.from(list.body(snapshot, caller))
  kept.set(key, body)
  return body
}

function keptFor([first, second = first]: readonly [object, object?]): Bodies {
  const bySecond = cache.get(first) ?? new WeakMap<object, Bodies>()
  const kept = bySecond.get(second) ?? new LRUCache<string, Buffer>({ max: maxKept })
  cache.set(first, bySecond.set(second, kept))
  return kept
}

/** `/v1/models/:model`. The name is returned as it was written. */
function oneModel(snapshot: Snapshot, exchange: Exchange, caller: Caller): string {
  const name = decoded(exchange.path.slice('/v1/models/'.length))
  const { model } = chooseModel(name, caller, snapshot)
  exchange.trace.model = model
  const view = snapshot.models.get(model)
  if (!view) throw new ProxyError('model_not_found', { model: name.slice(0, 400) })
  return JSON.stringify(openaiModel(name, view.newest))
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new ProxyError('bad_model', { model: JSON.stringify(text.slice(0, 200)) })
  }
}

function visibleModels(snapshot: Snapshot, caller: Caller): InventoryModel[] {
  const models = [...snapshot.models.values()].map(({ newest }) => newest)
  return latestFirst(
    [...models, ...aliasedModels(snapshot, caller)].filter(({ name }) => maySee(caller, name)),
    ({ modified_at }) => modified_at,
  )
}

/** Models under the names that routes give them, as if copied with `ollama cp`. */
function aliasedModels(snapshot: Snapshot, { tenant }: Caller): InventoryModel[] {
  const { routes, models } = snapshot
  const names = new Set(aliasesOf(routes).map(({ name }) => name))
  return [...names].flatMap((name) => {
    if (models.has(name)) return [] // listed under its own name
    const target = resolve(name, tenant, snapshot).wanted.find((each) => models.has(each))
    const model = target === undefined ? undefined : models.get(target)?.newest
    if (!model) return []
    const { shown: _, ...rest } = model
    return [{ ...rest, name }]
  })
}

/** Ollama's `/api/status`: whether cloud models are disabled, and by what. */
function cloudFor(caller: Caller, snapshot: Snapshot): object {
  const disabled = callerPolicyOf(caller, snapshot).cloud === 'refuse'
  return { disabled, source: disabled ? 'config' : 'none' }
}

/**
 * One row per node that has the model in memory. Clients find it by `model`, the name alone; `name`, which `ollama
 * ps` prints (cmd/cmd.go, ListRunningHandler), distinguishes rows of one model.
 */
function visibleLoaded({ loaded, config }: Snapshot, caller: Caller): object[] {
  const visible = loaded.filter(({ model }) => maySee(caller, model.name))
  const rows = latestFirst(visible, ({ model }) => model.expires_at)
  const byName = Map.groupBy(rows, ({ model }) => model.name)
  return rows.map((row) => {
    const { node, model: loadedModel } = row
    const { shown, ...model } = loadedModel
    const name = shown ?? model.name
    const alike = byName.get(model.name) ?? []
    const place = config.headers.node ? node : `${alike.indexOf(row) + 1} of ${alike.length}`
    return {
      ...model,
      name: alike.length > 1 ? `${name} (${place})` : name,
      model: name,
      ...(config.headers.node ? { llamero: { node } } : {}),
    }
  })
}

/** Sorts the latest first, as Ollama does. By time, not by text: each node writes dates in its own time zone. */
function latestFirst<T>(things: readonly T[], dateOf: (thing: T) => string): T[] {
  return things
    .map((thing) => ({ thing, at: Date.parse(dateOf(thing)) || 0 }))
    .sort((a, b) => b.at - a.at)
    .map(({ thing }) => thing)
}

/** JSON of a model: of thousands of models, few differ in the next list. */
const tags = new WeakMap<InventoryModel, string>()

/** The JSON of a model in `/api/tags`. */
function tag(model: InventoryModel): string {
  const { name, shown = name, modified_at, size, digest, details, capabilities } = model
  const json =
    tags.get(model) ??
    JSON.stringify({
      name: shown,
      model: shown,
      modified_at,
      size,
      digest,
      details,
      ...(capabilities ? { capabilities } : {}),
    })
  tags.set(model, json)
  return json
}

function openaiModel(id: string, { name, modified_at }: InventoryModel): object {
  const created = Math.floor((Date.parse(modified_at) || 0) / 1000)
  return { id, object: 'model', created, owned_by: namespaceOf(name) }
}

/** The lowest version of nodes in use: a client must not expect what some node cannot do. */
function lowestVersion(snapshot: Snapshot): string {
  const nodes = [...snapshot.nodes.values()].filter((node) => node.status?.version)
  const up = nodes.filter((node) => node.available && node.health !== 'down')
  const versions = (up.length > 0 ? up : nodes).map((node) => node.status?.version ?? '')
  return versions.sort(compareVersions)[0] ?? '0.0.0'
}
