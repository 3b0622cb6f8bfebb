import { byModel, type Config } from '../../fleet/config.ts'
import type { Api } from '../../fleet/request-spec.ts'
import { ProxyError } from '../../shared/errors.ts'

/** Answers from the snapshot, which need no node. */
export type SnapshotResponse = 'running' | 'version' | 'status' | 'tags' | 'ps' | 'models' | 'model'

export type ManagedAction = 'pull' | 'push' | 'create' | 'copy' | 'delete'

/** The kind of a path; requests that are not forwarded are counted by it. */
export type Kind = 'inference' | 'inventory' | 'management' | 'node-identity' | 'other'

export interface ForwardEndpoint {
  readonly action: 'forward'
  readonly kind: 'inference'
  readonly api: Api
  /** Whether the response is a stream when the body's `stream` does not say. */
  readonly streams: Streams
  readonly body: BodyKind
}

/** The format of a request body. JSON is read whole; a form is sent on while it comes. */
export type BodyKind = 'json' | 'json-or-zstd' | 'form'

/**
 * Requests that are sent on unchanged: to any node, to the node with the operator's account, or to the node for
 * unknown paths.
 */
export interface PassEndpoint {
  readonly action: 'pass'
  readonly kind: Kind
  readonly to: 'any' | 'identity' | 'unknown'
}

/** A path of the data listener, and what is done with it. */
export type DataEndpoint =
  | ForwardEndpoint
  | {
      readonly action: 'answer'
      readonly kind: 'inventory'
      readonly response: SnapshotResponse
      readonly open: boolean
    }
  | { readonly action: 'show'; readonly kind: 'inventory' }
  | { readonly action: 'count-tokens'; readonly kind: 'inference' }
  | { readonly action: 'manage'; readonly kind: 'management'; readonly job: ManagedAction }
  | { readonly action: 'blob'; readonly kind: 'management' }
  | PassEndpoint

/** What is done with a request. The pipeline has one handler for each. */
export type Action = DataEndpoint['action']

export type EndpointOf<A extends Action> = Extract<DataEndpoint, { readonly action: A }>

/** Ollama's own endpoints stream unless `stream` is false; others stream only when asked (docs/ollama.md#requests). */
type Streams = 'unless-off' | 'if-on' | 'never'

interface Row {
  readonly methods: readonly string[]
  readonly endpoint: DataEndpoint
}

/**
 * The paths of llamero, which are those of Ollama and `/v1/messages/count_tokens` (docs/architecture.md#what-a-client-sees).
 * A path that is neither here nor in `patterns` does not exist, unless `routing.unknown_paths` says where such paths go.
 * Paths match exactly; a query is ignored and not forwarded.
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
  // The ollama CLI asks this first and sends no key.
  answer('/', ['GET', 'HEAD'], 'running', true),
  answer('/api/version', ['GET', 'HEAD'], 'version'),
  answer('/api/status', ['GET'], 'status'),
  answer('/api/tags', ['GET', 'HEAD'], 'tags'),
  answer('/api/ps', ['GET'], 'ps'),
  answer('/v1/models', ['GET'], 'models'),
  ['/api/show', { methods: ['POST'], endpoint: { action: 'show', kind: 'inventory' } }],
  [
    '/v1/messages/count_tokens',
    { methods: ['POST'], endpoint: { action: 'count-tokens', kind: 'inference' } },
  ],
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

/** Paths that end in a name. */
const patterns: readonly [RegExp, Row][] = [
  // Ollama accepts no "/" here, and so finds no model with a namespace.
  [/^\/v1\/models\/./, answer('', ['GET'], 'model')[1]],
  [/^\/api\/blobs\/[^/]+$/, { methods: ['HEAD', 'POST'], endpoint: { action: 'blob', kind: 'management' } }],
  [/^\/api\/user\/keys\/[^/]+$/, pass('', 'DELETE', 'node-identity', 'identity')[1]],
]

/** Paths that every reader understands alike: no empty, dot or escaped segments. */
const plainPath = /^\/(?:api|v1)(?:\/(?!\.{1,2}(?:\/|$))[\w.~:@-]+)+$/
const passedMethods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'])

/** @throws ProxyError `unknown_path` or `method_not_allowed`. */
export function findEndpoint(method: string, path: string, { routing }: Config): DataEndpoint {
  const row = table.get(path) ?? patterns.find(([pattern]) => pattern.test(path))?.[1]
  if (!row && routing.unknown_paths !== undefined && plainPath.test(path)) {
    if (routing.unknown_paths === byModel) {
      if (method === 'POST') return unlisted(path)
    } else if (passedMethods.has(method)) return { action: 'pass', kind: 'other', to: 'unknown' }
  }
  if (!row) throw unknownPath(path)
  if (!row.methods.includes(method))
    throw new ProxyError('method_not_allowed', { path: path.slice(0, 200), allow: row.methods.join(', ') })
  return row.endpoint
}

export function unknownPath(path: string): ProxyError {
  return new ProxyError('unknown_path', { path: path.slice(0, 200) })
}

function forward(path: string, api: Api, streams: Streams, body: BodyKind = 'json'): [string, Row] {
  const endpoint = { action: 'forward', kind: 'inference', api, streams, body } as const
  return [path, { methods: ['POST'], endpoint }]
}

/** The endpoint of an unknown path; its body must name a model. */
function unlisted(path: string): ForwardEndpoint {
  const api = path.startsWith('/v1/') ? 'openai_unlisted' : 'ollama_unlisted'
  return { action: 'forward', kind: 'inference', api, streams: 'if-on', body: 'json' }
}

function answer(
  path: string,
  methods: readonly string[],
  name: SnapshotResponse,
  open = false,
): [string, Row] {
  return [path, { methods, endpoint: { action: 'answer', kind: 'inventory', response: name, open } }]
}

function pass(path: string, method: string, kind: Kind, to: PassEndpoint['to']): [string, Row] {
  return [path, { methods: [method], endpoint: { action: 'pass', kind, to } }]
}

function manage(path: string, method: string, job: ManagedAction): [string, Row] {
  return [path, { methods: [method], endpoint: { action: 'manage', kind: 'management', job } }]
}
