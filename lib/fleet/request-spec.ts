/** The API that an endpoint belongs to; the `api` label of the metrics. */
export type Api =
  | 'ollama_chat'
  | 'ollama_generate'
  | 'ollama_embed'
  | 'ollama_embeddings'
  | 'openai_chat'
  | 'openai_completions'
  | 'openai_embeddings'
  | 'openai_responses'
  | 'openai_transcriptions'
  | 'anthropic_messages'
  | 'ollama_systemone'
  /** Paths of /api and /v1 that are not known here (`routing.unknown_paths`). */
  | 'ollama_unlisted'
  | 'openai_unlisted'

/** Whether the answer is an embedding instead of text. */
export function embeds(api: Api): boolean {
  return api === 'ollama_embed' || api === 'ollama_embeddings' || api === 'openai_embeddings'
}

/** Whether llamero knows only the model of these requests. */
export function isUnlisted(api: Api): boolean {
  return api === 'ollama_unlisted' || api === 'openai_unlisted'
}

/** The format of errors and streams for a caller. */
export type Dialect = 'ollama' | 'openai' | 'anthropic'

/** The messages of a conversation up to one of them, as a hash, and how many tokens they are. */
export interface Prefix {
  readonly hash: number
  readonly tokens: number
}

/** What a request needs: all that the scheduler knows of it. */
export interface RequestSpec {
  /** Request id. */
  readonly id: string
  readonly api: Api
  /** Canonical name of the model. */
  readonly model: string
  /** Its load-time options, as `writeVariant` writes them: a runner loaded with others must be loaded again to serve it. */
  readonly variant: string
  readonly tenant: string
  /** Name of its priority class. */
  readonly class: string
  /** Labels a node must have. */
  readonly labels: Readonly<Record<string, string>>
  /** When the request arrived, in monotonic milliseconds: its place in the queue, also when it is retried after a failed node. */
  readonly arrivedAt: number
  /** Whether the answer is streamed. A streamed answer begins with its first token, any other when it is complete. */
  readonly streams?: boolean
  /** Nodes that already failed this request. */
  readonly tried: ReadonlySet<string>
  /** Estimated from the body; absent when the body is streamed to the node unread. */
  readonly promptTokens?: number
  /** Most tokens of the answer; null or absent when the caller set no limit. */
  readonly maxTokens?: number | null
  /** From the first message on, each longer than the one before it; empty or absent when unknown. */
  readonly prefixes?: readonly Prefix[]
}

/** Why a node was chosen; the value of `x-llamero-reason`. */
export type Reason = 'warm' | 'affinity' | 'cold-load' | 'spill' | 'fallback'
