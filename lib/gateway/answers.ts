import type { InventoryModel } from '../fleet/node.ts'
import { matchesGlob } from '../fleet/schema.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import type { Caller } from './authenticate.ts'
import { sendJson } from './dialect.ts'
import type { Exchange } from './exchange.ts'

/** What is answered from memory, whatever the nodes do. */
export type AnswerName = 'running' | 'version' | 'tags' | 'ps' | 'models'

type Body = (snapshot: Snapshot, caller: Caller) => object

const bodies: Readonly<Record<Exclude<AnswerName, 'running'>, Body>> = {
  version: (snapshot) => ({ version: lowestVersion(snapshot) }),
  tags: (snapshot, caller) => ({ models: visibleModels(snapshot, caller).map(tag) }),
  ps: (snapshot, caller) => ({
    models: snapshot.loaded
      .filter(({ model }) => maySee(caller, model.name))
      .toSorted((a, b) => (a.model.expires_at < b.model.expires_at ? 1 : -1))
      .map(({ node, model }) => ({
        ...model,
        model: model.name,
        ...(snapshot.config.headers.node ? { llamero: { node } } : {}),
      })),
  }),
  models: (snapshot, caller) => {
    const models = visibleModels(snapshot, caller).map(({ name, modified_at }) => ({
      id: name,
      object: 'model',
      created: Math.floor((Date.parse(modified_at) || 0) / 1000),
      owned_by: 'library',
    }))
    // Ollama's own quirk: null, not an empty list (sheet ollama-api.md §1.6).
    return { object: 'list', data: models.length > 0 ? models : null }
  },
}

/** Bodies for callers who may see everything, kept as long as their snapshot: polling clients ask every few seconds. */
const cache = new WeakMap<Snapshot, Map<string, Buffer>>()

/** Answers a request from the snapshot. */
export function answerFrom(snapshot: Snapshot, name: AnswerName, exchange: Exchange, caller: Caller): void {
  exchange.trace.outcome = 'ok'
  const headers = { 'x-request-id': exchange.publicId }
  if (name === 'running') {
    exchange.response.writeHead(200, {
      'content-type': 'text/plain; charset=utf-8',
      'content-length': 17,
      ...headers,
    })
    exchange.response.end(exchange.request.method === 'HEAD' ? undefined : 'Ollama is running')
    return
  }
  sendJson(exchange.response, 200, bodyOf(snapshot, name, caller), headers)
}

function bodyOf(snapshot: Snapshot, name: Exclude<AnswerName, 'running'>, caller: Caller): Buffer {
  const render = () => Buffer.from(JSON.stringify(bodies[name](snapshot, caller)))
  if (!caller.models.includes('*')) return render()
  const kept = cache.get(snapshot) ?? new Map<string, Buffer>()
  cache.set(snapshot, kept)
  const body = kept.get(name) ?? render()
  kept.set(name, body)
  return body
}

function maySee(caller: Caller, model: string): boolean {
  return caller.models.some((glob) => matchesGlob(glob, model))
}

/** Newest first, as Ollama lists them. */
function visibleModels(snapshot: Snapshot, caller: Caller): InventoryModel[] {
  return [...snapshot.models.values()]
    .map(({ newest }) => newest)
    .filter(({ name }) => maySee(caller, name))
    .sort((a, b) => (a.modified_at < b.modified_at ? 1 : -1))
}

function tag({ name, modified_at, size, digest, details, capabilities }: InventoryModel): object {
  return { name, model: name, modified_at, size, digest, details, ...(capabilities ? { capabilities } : {}) }
}

/** The lowest version in use: a client that checks it must not be promised what some node cannot do. */
function lowestVersion(snapshot: Snapshot): string {
  const nodes = [...snapshot.nodes.values()].filter((node) => node.status?.version)
  const up = nodes.filter((node) => node.available)
  const versions = (up.length > 0 ? up : nodes).map((node) => node.status?.version ?? '')
  return versions.sort(compareVersions)[0] ?? '0.0.0'
}

function compareVersions(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}
