/**
 * The catalogue: every error that a client or an operator can meet. Programs decide by the code, never by the text.
 *
 * `status` is the HTTP status. `retryAfter` is the default of `Retry-After` in seconds, where waiting helps. `text` makes
 * the sentence from the facts: it names the fault and what to do next, and never the address of a node.
 */
interface Kind {
  readonly status: number
  readonly retryAfter?: number
  readonly text: (facts: ErrorFacts) => string
}

export type ErrorFacts = Readonly<Record<string, string | number>>

const catalogue = {
  // 400: the request is wrong
  bad_request: { status: 400, text: (f) => `${f['reason']}` },
  missing_body: { status: 400, text: () => 'missing request body' },
  bad_json: { status: 400, text: (f) => `invalid JSON body: ${f['reason']}` },
  broken_zstd: {
    status: 400,
    text: () =>
      'the request body is not valid zstd, the encoding that its Content-Encoding names; send it uncompressed',
  },
  bad_form: { status: 400, text: (f) => `invalid multipart form: ${f['reason']}` },
  no_audio: { status: 400, text: (f) => `"${f['model']}" does not support audio` },
  lacks_capability: { status: 400, text: (f) => `"${f['model']}" does not support ${f['capability']}` },
  missing_model: { status: 400, text: () => 'model is required: name one in the body\'s "model" field' },
  bad_model: { status: 400, text: (f) => `invalid model name ${f['model']}` },
  two_sources: { status: 400, text: (f) => `use either :local or :cloud, not both: ${f['model']}` },
  request_timeout: { status: 408, text: () => 'the request was not received in time; send it again' },
  body_too_slow: {
    status: 408,
    text: (f) =>
      `the request body arrived slower than ${f['rate']} bytes a second; send it faster, or send less`,
  },
  body_too_large: {
    status: 413,
    text: (f) => `request body is larger than ${f['limit']} bytes; send a smaller one`,
  },
  target_too_long: {
    status: 414,
    text: () => 'request target is longer than 8192 bytes; shorten the path or the query',
  },
  unsupported_encoding: {
    status: 415,
    text: (f) => `request body has Content-Encoding ${f['encoding']}; send it uncompressed`,
  },
  job_too_large: {
    status: 413,
    text: (f) =>
      `the request is larger than the ${f['limit']} bytes that the store keeps of a job; send a smaller one`,
  },
  extensions_too_large: {
    status: 413,
    text: () => 'the chunk extensions of the request body are too long; send the chunks without them',
  },
  headers_too_large: {
    status: 431,
    text: () => 'request headers or trailers are too large; send fewer or shorter ones',
  },
  bad_expectation: {
    status: 417,
    text: () => 'only "Expect: 100-continue" is understood; leave the Expect header out',
  },
  bad_version: {
    status: 505,
    text: () => 'only HTTP/1.0 and HTTP/1.1 are served; send the request in one of them',
  },
  // 401, 403: the caller has no permission
  unauthorized: {
    status: 401,
    text: () => 'missing or invalid API key: send "Authorization: Bearer llm_..."',
  },
  key_expired: {
    status: 401,
    text: (f) =>
      `this API key expired at ${f['expires']}; it is ${f['now']} by the clock of this instance; ask an operator for a new key (llamero key create NAME)`,
  },
  inference_scope_required: {
    status: 403,
    text: () =>
      'this key has only the scope admin; an operator can create a key for models too: llamero key create NAME --scope inference --scope admin',
  },
  anonymous_refused: {
    status: 403,
    text: (f) =>
      `${f['reason']}; create a key with "llamero key create NAME" and send it as "Authorization: Bearer llm_..."`,
  },
  admin_token_required: {
    status: 401,
    text: () =>
      'this request needs the admin token: send "Authorization: Bearer TOKEN" (LLAMERO_ADMIN_TOKEN for the CLI)',
  },
  admin_scope_required: {
    status: 403,
    text: () =>
      'changing models needs the scope admin; an operator can create a key with it (llamero key create NAME --scope inference --scope admin), or add the address of the caller to auth.addresses (llamero config edit)',
  },
  foreign_origin: {
    status: 403,
    text: () =>
      'web pages of this origin may not send requests; an operator can add the origin to cors.origins (llamero config edit)',
  },
  foreign_host: {
    status: 403,
    text: (f) =>
      `without an API key, requests to host "${f['host']}" are refused: a web page may have rebound that name to this machine; ask for localhost or the machine's address, or let an operator add the name to auth.hosts (llamero config edit)`,
  },
  forbidden: { status: 403, text: (f) => `${f['reason']}` },
  option_refused: {
    status: 403,
    text: (f) => `field "${f['field']}" is refused: ${f['reason']}`,
  },
  cloud_refused: {
    status: 403,
    text: (f) =>
      `model '${f['model']}' runs at ollama.com; this cluster serves only models of its own servers; an operator can allow it with callers.cloud (llamero config edit)`,
  },
  not_served: {
    status: 403,
    text: (f) =>
      `llamero does not serve ${f['path']}: this path uses the ollama.com account of one Ollama server; an operator can allow that with node_identity.node (llamero config edit)`,
  },
  // 404, 405: the path or the model does not exist
  unknown_path: { status: 404, text: (f) => `no such path: ${f['path']}` },
  method_not_allowed: { status: 405, text: (f) => `${f['path']} takes ${f['allow']}` },
  model_not_found: { status: 404, text: (f) => `model '${f['model']}' not found` },
  no_capable_model: {
    status: 404,
    text: (f) =>
      `no model here has the capability "${f['capability']}"; pull a model with it, and name that model in the body's "model" field`,
  },
  model_not_pulled: {
    status: 404,
    text: (f) => `model ${JSON.stringify(f['model'])} not found, try pulling it first`,
  },
  source_not_found: { status: 404, text: (f) => `model ${JSON.stringify(f['model'])} not found` },
  // 429, 503: try again later
  no_place: {
    status: 503,
    retryAfter: 5,
    text: (f) =>
      `no Ollama server can ${f['action']} ${f['model'] ? `model '${f['model']}'` : 'files'} now: ${f['reason']}`,
  },
  queue_full: {
    status: 429,
    retryAfter: 5,
    text: (f) => `the queue is full: ${f['queued']} requests are waiting; try again later`,
  },
  tenant_queue_full: {
    status: 429,
    retryAfter: 5,
    text: (f) => `tenant '${f['tenant']}' has as much work waiting as its limit allows; try again later`,
  },
  no_capacity: {
    status: 503,
    retryAfter: 10,
    text: (f) =>
      `all Ollama servers for model '${f['model']}' are busy, and too many requests wait for them; try again in ${f['seconds']} s`,
  },
  cancelled: {
    status: 503,
    text: () => 'an operator removed this request from the queue; ask the operator before you send it again',
  },
  no_config: {
    status: 503,
    retryAfter: 2,
    text: () =>
      'this instance has no configuration yet: its store has not answered since the start; an operator can check the store with: llamero status',
  },
  bodies_full: {
    status: 503,
    retryAfter: 2,
    text: () => 'this instance holds too many request bodies at once; try again in a few seconds',
  },
  own_fault: {
    status: 503,
    retryAfter: 2,
    text: (f) =>
      `llamero is out of ${f['resource']} on this instance; try again in a few seconds, or at another instance`,
  },
  shutting_down: {
    status: 503,
    retryAfter: 1,
    text: () => 'this instance is shutting down; send the request again',
  },
  no_nodes: {
    status: 503,
    text: () => 'no Ollama servers are registered yet; run: llamero node add NAME http://HOST:11434',
  },
  not_ready: {
    status: 503,
    retryAfter: 1,
    text: () => 'starting: the Ollama servers have not been probed yet; try again in a second',
  },
  all_nodes_down: {
    status: 503,
    retryAfter: 5,
    text: (f) =>
      f['labels']
        ? `a route lets model '${f['model']}' use only some Ollama servers, and of these no server with the model is in service; an operator can see why with: llamero route test ${f['model']}`
        : f['unavailable']
          ? `no Ollama server that has model '${f['model']}' can take requests for it: ${f['unavailable']}; try again in a few seconds`
          : `every Ollama server that has model '${f['model']}' is down, cordoned or no longer registered; try again in a few seconds`,
  },
  queue_timeout: {
    status: 503,
    retryAfter: 10,
    text: (f) => `no slot became free for model '${f['model']}' within ${f['seconds']} s; try again later`,
  },
  node_unavailable: {
    status: 503,
    retryAfter: 5,
    text: () =>
      'no Ollama server that may answer this request is up; an operator can see why with: llamero node list',
  },
  no_leader: {
    status: 503,
    retryAfter: 5,
    text: () =>
      'no instance leads this cluster now, and only the leader can carry this out; try again in a few seconds',
  },
  // 502, 504: every attempt failed
  node_failed: { status: 502, text: (f) => `the Ollama server failed: ${f['reason']}` },
  node_unauthorized: {
    status: 502,
    text: (f) =>
      `the Ollama server refuses llamero, not your key: ${f['reason']}; an operator must correct the node's "headers", or sign it in to ollama.com`,
  },
  path_unknown_to_node: {
    status: 404,
    text: (f) => `the Ollama server is too old for ${f['path']}; an operator must update Ollama there`,
  },
  proxy_body_limit: {
    status: 413,
    text: () =>
      'a proxy in front of the Ollama server takes no request this large; an operator can raise its limit (nginx: client_max_body_size)',
  },
  proxy_busy: {
    status: 503,
    retryAfter: 5,
    text: (f) =>
      `a proxy in front of the Ollama server takes no requests now (status ${f['status']}); try again in a few seconds`,
  },
  not_ollama: {
    status: 502,
    text: (f) =>
      `a program that is not Ollama answered in place of the Ollama server (status ${f['status']}); an operator must check the node's URL and the proxy in front of the node`,
  },
  node_timeout: { status: 504, text: (f) => `the Ollama server did not answer in time: ${f['reason']}` },
  loop_detected: {
    status: 508,
    text: () =>
      'this request has come back to the cluster that sent it: one of its nodes is llamero itself; register the Ollama servers, not llamero',
  },
  internal: {
    status: 500,
    text: () => 'internal error; the log of this instance has the details under the request id',
  },
  // only in the admin API
  not_found: { status: 404, text: (f) => `no ${f['kind']} named "${f['name']}"` },
  conflict: { status: 409, text: (f) => `${f['reason']}` },
  invalid: { status: 422, text: (f) => `${f['reason']}` },
  store_unavailable: {
    status: 503,
    retryAfter: 2,
    text: (f) => `the store cannot be reached: ${f['reason']}; requests go on; see: llamero status`,
  },
} satisfies Record<string, Kind>

export type ErrorCode = keyof typeof catalogue

/** Every code, in the order of the catalogue. */
export const errorCodes = Object.keys(catalogue) as readonly ErrorCode[]

/** An error of the catalogue. The listener that answers the request writes it in the dialect of the caller. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError'
  readonly code: ErrorCode
  readonly facts: ErrorFacts

  /**
   * @param facts the values that `text` needs: `model`, `limit`, …
   * @param options.cause the underlying error, for the log only.
   */
  constructor(code: ErrorCode, facts: ErrorFacts = {}, options?: ErrorOptions) {
    super(catalogue[code].text(facts), options)
    this.code = code
    this.facts = facts
  }

  get status(): number {
    return catalogue[this.code].status
  }

  /** Seconds after which a retry may help, or undefined when no retry helps. The fact `retryAfter` overrides the default. */
  get retryAfter(): number | undefined {
    const given = this.facts['retryAfter']
    const kind: Kind = catalogue[this.code]
    return typeof given === 'number' ? given : kind.retryAfter
  }
}

/** The message of anything thrown, for logs. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
