import { byModel, type Config } from '../../fleet/config.ts'
import type { Api } from '../../fleet/request-spec.ts'
import { ProxyError } from '../../shared/errors.ts'

/** What is answered from memory, whatever the nodes do. */
export type AnswerName = 'running' | 'version' | 'status' | 'tags' | 'ps' | 'models' | 'model'

export type ManagedAction = 'pull' | 'push' | 'create' | 'copy' | 'delete'

/** What a path is about. What is not forwarded is counted under it. */
export type Kind = 'inference' | 'inventory' | 'management' | 'node-identity' | 'other'

export interface ForwardRoute {
  readonly action: 'forward'
  readonly kind: 'inference'
  readonly api: Api
  /** Whether the answer comes in pieces, when the body's `stream` does not say. */
  readonly streams: Streams
  readonly body: BodyKind
}

/** How a request's body is written: JSON is held whole, a form is passed on while it comes. */
export type BodyKind = 'json' | 'json-or-zstd' | 'form'

/** Passed on as it is: to any node, to the one whose account may be used, or to the one that gets what is not known. */
export interface PassRoute {
  readonly action: 'pass'
  readonly kind: Kind
  readonly to: 'any' | 'identity' | 'unknown'
}

/** What is done with a path: forwarded to a node, answered by this instance, or refused. */
export type Route =
  | ForwardRoute
  | {
      readonly action: 'answer'
      readonly kind: 'inventory'
      readonly answer: AnswerName
      readonly open: boolean
    }
  | { readonly action: 'show'; readonly kind: 'inventory' }
  | { readonly action: 'count-tokens'; readonly kind: 'inference' }
  | { readonly action: 'manage'; readonly kind: 'management'; readonly job: ManagedAction }
  | { readonly action: 'blob'; readonly kind: 'management' }
  | PassRoute

/** What is done with a request. The pipeline has one handler for each. */
export type Action = Route['action']

export type RouteOf<A extends Action> = Extract<Route, { readonly action: A }>

/** Ollama's own routes stream unless told not to, those of the others only when asked (docs/ollama.md#requests). */
type Streams = 'unless-off' | 'if-on' | 'never'

interface Row {
  readonly methods: readonly string[]
  readonly route: Route
}

/**
 * Every path of Ollama (docs/ollama.md#requests). Default deny: a path that is not here does not exist. Paths match
 * exactly; a query is neither needed nor forwarded.
 */
const table: ReadonlyMap<string, Row> = new Map([
  forward('/api/chat', 'ollama_chat', 'unless-off'),
  forward('/api/generate', 'ollama_generate', 'unless-off'),
  forward('/api/embed', 'ollama_embed', 'never'),
  forward('/api/embeddings', 'ollama_embeddings', 'never'),
  forward('/v1/chat/completions', 'openai_chat', 'if-on', 'json-or-zstd'),
  forward('/v1/completions', 'openai_completions', 'if-on', 'json-or-zstd'),
  forward('/v1/responses', 'openai_responses', 'if-on', 'json-or-zstd'),
  forward('/v1/messages', 'anthropic_messages', 'if-on', 'json-or-zstd'),
  forward('/v1/embeddings', 'openai_embeddings', 'never', 'json-or-zstd'),
  forward('/v1/systemone', 'ollama_systemone', 'never'),
  forward('/v1/audio/transcriptions', 'openai_transcriptions', 'never', 'form'),
  // The heartbeat of the ollama CLI, which cannot send a key: it says only what every Ollama says.
  answer('/', ['GET', 'HEAD'], 'running', true),
  answer('/api/version', ['GET', 'HEAD'], 'version'),
  answer('/api/status', ['GET'], 'status'),
  answer('/api/tags', ['GET', 'HEAD'], 'tags'),
  answer('/api/ps', ['GET'], 'ps'),
  answer('/v1/models', ['GET'], 'models'),
  ['/api/show', { methods: ['POST'], route: { action: 'show', kind: 'inventory' } }],
  ['/v1/messages/count_tokens', { methods: ['POST'], route: { action: 'count-tokens', kind: 'inference' } }],
  manage('/api/pull', 'POST', 'pull'),
  manage('/api/push', 'POST', 'push'),
  manage('/api/create', 'POST', 'create'),
  manage('/api/copy', 'POST', 'copy'),
  manage('/api/delete', 'DELETE', 'delete'),
  pass('/api/me', 'POST', 'node-identity', 'identity'),
  pass('/api/signout', 'POST', 'node-identity', 'identity'),
  pass('/api/experimental/web_search', 'POST', 'node-identity', 'identity'),
  pass('/api/experimental/web_fetch', 'POST', 'node-identity', 'identity'),
  pass('/api/experimental/model-recommendations', 'GET', 'inventory', 'any'),
])

/** Paths that end in a name of the caller's. */
const patterns: readonly [RegExp, Row][] = [
  // Ollama takes no "/" here, and so does not find models with a namespace.
  [/^\/v1\/models\/./, answer('', ['GET'], 'model')[1]],
  [/^\/api\/blobs\/[^/]+$/, { methods: ['HEAD', 'POST'], route: { action: 'blob', kind: 'management' } }],
  [/^\/api\/user\/keys\/[^/]+$/, pass('', 'DELETE', 'node-identity', 'identity')[1]],
]

/** Paths that mean the same to every reader: no empty, dot or escaped segments. */
const plainPath = /^\/(?:api|v1)(?:\/(?!\.{1,2}(?:\/|$))[\w.~:@-]+)+$/
const passedMethods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'])

/** @throws ProxyError `unknown_path` or `method_not_allowed`. */
export function findRoute(method: string, path: string, { routing }: Config): Route {
  const row = table.get(path) ?? patterns.find(([pattern]) => pattern.test(path))?.[1]
  if (!row && routing.unknown_paths !== undefined && plainPath.test(path)) {
    if (routing.unknown_paths === byModel) {
      if (method === 'POST') return unlisted(path)
    } else if (passedMethods.has(method)) return { action: 'pass', kind: 'other', to: 'unknown' }
  }
  if (!row) throw unknownPath(path)
  if (!row.methods.includes(method))
    throw new ProxyError('method_not_allowed', { path: path.slice(0, 200), allow: row.methods.join(', ') })
  return row.route
}

export function unknownPath(path: string): ProxyError {
  return new ProxyError('unknown_path', { path: path.slice(0, 200) })
}

function forward(path: string, api: Api, streams: Streams, body: BodyKind = 'json'): [string, Row] {
  const route = { action: 'forward', kind: 'inference', api, streams, body } as const
  return [path, { methods: ['POST'], route }]
}

/** A path that is not known, of which the body may name a model. */
function unlisted(path: string): ForwardRoute {
  const api = path.startsWith('/v1/') ? 'openai_unlisted' : 'ollama_unlisted'
  return { action: 'forward', kind: 'inference', api, streams: 'if-on', body: 'json' }
}

function answer(path: string, methods: readonly string[], name: AnswerName, open = false): [string, Row] {
  return [path, { methods, route: { action: 'answer', kind: 'inventory', answer: name, open } }]
}

function pass(path: string, method: string, kind: Kind, to: PassRoute['to']): [string, Row] {
  return [path, { methods: [method], route: { action: 'pass', kind, to } }]
}

function manage(path: string, method: string, job: ManagedAction): [string, Row] {
  return [path, { methods: [method], route: { action: 'manage', kind: 'management', job } }]
}
