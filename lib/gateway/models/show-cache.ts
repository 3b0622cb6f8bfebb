import { LRUCache } from 'lru-cache'
import { byHealth, type NodeView } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { unavailableNodesText } from '../../scheduler/queue/unavailable-nodes.ts'
import { orAborted } from '../../shared/abort.ts'
import { ProxyError } from '../../shared/errors.ts'
import { compareVersions } from '../../shared/versions.ts'
import { chooseModel } from '../admission/model-routing.ts'
import type { UpstreamPool } from '../availability/upstream-pool.ts'
import type { RequestBodies } from '../body/request-bodies.ts'
import { failRequest, provesDown } from '../dispatch/final-failure.ts'
import type { Caller } from '../http/authenticate.ts'
import { sendJson } from '../http/error-response.ts'
import type { Exchange } from '../http/exchange.ts'
import { isForeign, isUnauthorized } from '../response/not-ollama.ts'
import { parseObject } from '../response/ollama-json.ts'
import type { UpstreamFailure, UpstreamOutcome } from '../response/outcome.ts'
import type { NodeClient } from '../upstream/node-client.ts'

interface ShowCacheOptions {
  readonly client: NodeClient
  readonly upstreams: UpstreamPool
  /** See UpstreamAttemptsOptions. */
  readonly requestProbe: (node: string) => void
}

/** A question about a model. Equal questions have equal responses, as long as the digest is the same. */
interface Question {
  readonly model: string
  readonly verbose: boolean
  readonly userAgent: string | undefined
}

/** Bytes of a request, which only names a model. */
const maxBodyBytes = 64 * 1024
/** Bytes of a verbose response with a large vocabulary. */
const maxResponseBytes = 32 * 1024 * 1024
const maxCacheBytes = 64 * 1024 * 1024

/**
 * `/api/show`: answered by any node that has the model, the newest copy first, without a slot since no runner is
 * needed; then from the cache. Invariant: at most one request per node and question is in flight; it goes on when its
 * first caller leaves.
 */
export class ShowCache {
  readonly #options: ShowCacheOptions
  readonly #cache = new LRUCache<string, Buffer>({
    maxSize: maxCacheBytes,
    // A single body must not displace most others.
    maxEntrySize: maxCacheBytes / 2,
    sizeCalculation: (body) => Math.max(1, body.length),
  })
  readonly #inFlight = new Map<string, Promise<UpstreamOutcome>>()

  constructor(options: ShowCacheOptions) {
    this.#options = options
  }

  /**
   * Resolves when the caller has the response, or the refusal of the last node.
   *
   * @throws ProxyError `bad_json`, `all_nodes_down`, those of `chooseModel`, or that every node failed; the reason of the
   *   exchange's signal.
   */
  answer(exchange: Exchange, caller: Caller, bodies: RequestBodies, snapshot: Snapshot): Promise<void> {
    const answer = (body: Buffer) => this.#answer(exchange, caller, body, snapshot)
    return bodies.withWhole(exchange, caller, snapshot.config, answer, maxBodyBytes)
  }

  async #answer(exchange: Exchange, caller: Caller, body: Buffer, snapshot: Snapshot): Promise<void> {
    const { name, verbose } = readQuestion(body)
    const { model } = chooseModel(name, caller, snapshot)
    exchange.trace.model = model
    const question = { model, verbose, userAgent: exchange.request.headers['user-agent'] }
    const newest = newestDigest(model, snapshot)
    const having = nodesWith(model, newest, snapshot)
    const cached = this.#cachedResponse(question, newest, having)
    if (cached) return send(exchange, cached)
    const nodes = having.filter((node) => this.#canBeAsked(node))
    let failure: UpstreamFailure | null = null
    for (const node of nodes.slice(0, snapshot.config.routing.attempts)) {
      exchange.trace.node = node.name
      exchange.trace.attempts++
      const outcome = await orAborted(this.#request(node, question, snapshot), exchange.signal)
      if (outcome.kind === 'refused' && outcome.status < 300) return send(exchange, outcome.body)
      if (outcome.kind === 'refused' || outcome.kind === 'node-failed') failure = outcome
      if (isFinal(outcome)) break
    }
    if (!failure || provesDown(failure, snapshot.nodes.get(exchange.trace.node))) {
      const unavailable = unavailableNodesText({ model, tried: new Set() }, snapshot, this.#options.upstreams)
      throw new ProxyError('all_nodes_down', { model, unavailable }, { cause: failure?.cause })
    }
    failRequest(exchange, failure)
  }

  /** The cached response of the newest version that has the newest copy, unless a newer one can be asked. */
  #cachedResponse(question: Question, newest: string, having: readonly NodeView[]): Buffer | null {
    const copies = having.filter(({ onDisk }) => onDisk.get(question.model) === newest)
    for (const node of copies.sort((a, b) => compareVersions(versionOf(b), versionOf(a)))) {
      const cached = this.#cache.get(keyOf(question, newest, versionOf(node)))
      if (cached) return cached
      if (node.health !== 'down' && this.#canBeAsked(node)) return null
    }
    return null
  }

  #canBeAsked({ name, departed }: NodeView): boolean {
    return departed === null && this.#options.upstreams.breakerState(name) !== 'open'
  }

  #request(node: NodeView, question: Question, snapshot: Snapshot): Promise<UpstreamOutcome> {
    const key = keyOf(question, node.onDisk.get(question.model) ?? '', versionOf(node))
    // Another request may have got it while the node before failed.
    const cached = this.#cache.get(key)
    if (cached) return Promise.resolve(asOutcome(cached))
    const flightKey = `${node.name} ${key}`
    const pending = this.#inFlight.get(flightKey)
    if (pending !== undefined) return pending
    const answer = this.#send(node, question, snapshot).then((outcome) => {
      this.#inFlight.delete(flightKey)
      this.#keep(node, question.model, key, outcome)
      return outcome
    })
    this.#inFlight.set(flightKey, answer)
    return answer
  }

  #keep(node: NodeView, model: string, key: string, outcome: UpstreamOutcome): void {
    if (outcome.kind === 'refused') {
      if (outcome.status < 300 && node.onDisk.get(model)) this.#cache.set(key, outcome.body)
      if (outcome.status !== 404) return
    }
    this.#options.requestProbe(node.name)
  }

  #send(
    node: NodeView,
    { model, verbose, userAgent }: Question,
    snapshot: Snapshot,
  ): Promise<UpstreamOutcome> {
    const { timeouts } = snapshot.config
    return this.#options.client.send(node, {
      method: 'POST',
      path: '/api/show',
      requestId: 'llamero-show',
      headers: { 'content-type': 'application/json', ...(userAgent && { 'user-agent': userAgent }) },
      body: Buffer.from(JSON.stringify({ model, ...(verbose && { verbose }) })),
      timeouts,
      // The node only reads a file: the limit is that of a pause between tokens.
      silentMs: timeouts.between_tokens,
      maxResponseBytes,
    })
  }
}

function newestDigest(model: string, { models }: Snapshot): string {
  return models.get(model)?.newest.digest ?? ''
}

/** Nodes that are down come last; then by the newest copy, by health, and by the newest Ollama. */
function nodesWith(model: string, newest: string, { models, nodes }: Snapshot): NodeView[] {
  const isOlder = (node: NodeView) => Number(node.onDisk.get(model) !== newest)
  const isDown = (node: NodeView) => Number(node.health === 'down')
  return (models.get(model)?.presentOn ?? [])
    .flatMap((name) => nodes.get(name) ?? [])
    .sort(
      (a, b) =>
        isDown(a) - isDown(b) ||
        isOlder(a) - isOlder(b) ||
        byHealth(a, b) ||
        compareVersions(versionOf(b), versionOf(a)),
    )
}

/** A cached body as an outcome. */
function asOutcome(body: Buffer): UpstreamOutcome {
  return { kind: 'refused', status: 200, contentType: 'application/json', body, retryAfterMs: null }
}

function versionOf({ status }: NodeView): string {
  return status?.version ?? ''
}

/**
 * Ollama writes the name into the response, and another `general.basename` for Copilot (GetModelInfo in
 * server/routes.go).
 */
function keyOf({ model, verbose, userAgent }: Question, digest: string, version: string): string {
  return [model, digest, version, verbose, userAgent?.startsWith('GitHubCopilotChat/') ?? false].join(' ')
}

function readQuestion(body: Buffer): { readonly name: string; readonly verbose: boolean } {
  const question = parseObject(body.toString('utf8'))
  if (!question) throw new ProxyError('bad_json', { reason: 'the body must be a JSON object' })
  const name = question['model'] || question['name']
  if (typeof name !== 'string') throw new ProxyError('missing_model')
  return { name, verbose: question['verbose'] === true }
}

/** Whether Ollama refused the request itself, as any other node would. */
function isFinal(outcome: UpstreamOutcome): boolean {
  if (outcome.kind !== 'refused' || isForeign(outcome) || isUnauthorized(outcome)) return false
  return outcome.status < 500 && outcome.status !== 404
}

function send(exchange: Exchange, body: Buffer): void {
  sendJson(exchange.response, 200, body, { 'x-request-id': exchange.publicId })
  exchange.trace.outcome = 'ok'
}
