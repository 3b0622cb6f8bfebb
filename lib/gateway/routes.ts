import type { Api } from '../fleet/ask.ts'
import { ProxyError } from '../shared/errors.ts'
import type { AnswerName } from './answers.ts'

/** What is done with a path: forwarded to a node, or answered from the snapshot. */
export type Route =
  | { readonly action: 'forward'; readonly method: 'POST'; readonly api: Api; readonly path: string }
  | { readonly action: 'answer'; readonly answer: AnswerName; readonly open: boolean }

interface Row {
  readonly methods: readonly string[]
  readonly route: Route
}

/** Default deny: a path that is not here does not exist. Paths match exactly; a query is neither needed nor forwarded. */
const table: ReadonlyMap<string, Row> = new Map([
  forward('/api/chat', 'ollama_chat'),
  forward('/api/generate', 'ollama_generate'),
  forward('/api/embed', 'ollama_embed'),
  forward('/api/embeddings', 'ollama_embeddings'),
  forward('/v1/chat/completions', 'openai_chat'),
  forward('/v1/completions', 'openai_completions'),
  forward('/v1/embeddings', 'openai_embeddings'),
  forward('/v1/responses', 'openai_responses'),
  forward('/v1/messages', 'anthropic_messages'),
  // The heartbeat of the ollama CLI, which cannot send a key: it says only what every Ollama says.
  answer('/', ['GET', 'HEAD'], 'running', true),
  answer('/api/version', ['GET', 'HEAD'], 'version'),
  answer('/api/tags', ['GET', 'HEAD'], 'tags'),
  answer('/api/ps', ['GET'], 'ps'),
  answer('/v1/models', ['GET'], 'models'),
])

/** @throws ProxyError `unknown_path` or `method_not_allowed`. */
export function findRoute(method: string, path: string): Route {
  const row = table.get(path)
  if (!row) throw new ProxyError('unknown_path', { path: path.slice(0, 200) })
  if (!row.methods.includes(method))
    throw new ProxyError('method_not_allowed', { path, allow: row.methods.join(', ') })
  return row.route
}

function forward(path: string, api: Api): [string, Row] {
  return [path, { methods: ['POST'], route: { action: 'forward', method: 'POST', api, path } }]
}

function answer(path: string, methods: readonly string[], name: AnswerName, open = false): [string, Row] {
  return [path, { methods, route: { action: 'answer', answer: name, open } }]
}
