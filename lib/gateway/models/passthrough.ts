import { byHealth, type NodeView } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { UpstreamPool } from '../availability/upstream-pool.ts'
import type { RequestBodies } from '../body/request-bodies.ts'
import { failRequest, provesDown, sendRefusal } from '../dispatch/final-failure.ts'
import type { Caller } from '../http/authenticate.ts'
import { ClientGone, type Exchange } from '../http/exchange.ts'
import type { PassEndpoint } from '../http/find-endpoint.ts'
import { requestHeaders } from '../http/request-headers.ts'
import { HeldDelivery } from '../response/held-delivery.ts'
import { isPage } from '../response/not-ollama.ts'
import type { UpstreamFailure } from '../response/outcome.ts'
import { PassDelivery } from '../response/pass-delivery.ts'
import type { Forwarder } from '../upstream/forwarder.ts'
import { type UpstreamRequest, upTo } from '../upstream/upstream-request.ts'

interface PassthroughOptions {
  readonly upstreams: UpstreamPool
  readonly forwarder: Forwarder
  readonly clock: Clock
  /** See UpstreamAttemptsOptions. */
  readonly requestProbe: (node: string) => void
}

/** Sends requests that name no model to a node, without a slot, and passes the response on unchanged. */
export class Passthrough {
  readonly #options: PassthroughOptions

  constructor(options: PassthroughOptions) {
    this.#options = options
  }

  /**
   * Reads the body, which may be empty, and sends it on. Resolves when the caller has a node's answer.
   *
   * @throws ProxyError those of `#nodesFor`, `readBody` and `#forward`; the reason of the exchange's signal.
   */
  async answer(
    exchange: Exchange,
    endpoint: PassEndpoint,
    caller: Caller,
    bodies: RequestBodies,
    snapshot: Snapshot,
  ): Promise<void> {
    const nodes = this.#nodesFor(exchange, endpoint, caller, snapshot)
    using share = bodies.share(exchange, caller)
    const { bytes } = await bodies.read(exchange, endpoint, share, snapshot.config)
    await this.#forward(exchange, nodes, bytes, snapshot)
  }

  /**
   * The nodes that may be asked, in the order in which they are asked.
   *
   * @throws ProxyError `not_served` where the configuration names no node, `forbidden` without an admin's key,
   *   `node_unavailable`.
   */
  #nodesFor(
    exchange: Exchange,
    endpoint: PassEndpoint,
    caller: Caller,
    snapshot: Snapshot,
  ): readonly NodeView[] {
    const { nodes, config } = snapshot
    const available = [...nodes.values()].filter((node) => node.available).sort(byHealth)
    if (endpoint.to === 'any') return atLeastOne(available.slice(0, config.routing.attempts))
    const name = endpoint.to === 'identity' ? config.node_identity.node : config.routing.unknown_paths
    if (name === undefined) throw new ProxyError('not_served', { path: exchange.path.slice(0, 200) })
    // These paths act with the ollama.com account of the node.
    if (endpoint.to === 'identity' && !caller.mayManage)
      throw new ProxyError('forbidden', {
        reason:
          'this path needs an API key with the scope admin; an operator can create one with: llamero key create NAME --scope inference --scope admin',
      })
    return atLeastOne(available.filter((node) => node.name === name))
  }

  /**
   * Resolves when the caller has a node's response.
   *
   * @throws ProxyError when every node failed; the reason of the exchange's signal.
   */
  async #forward(
    exchange: Exchange,
    nodes: readonly NodeView[],
    body: Buffer,
    snapshot: Snapshot,
  ): Promise<void> {
    const failure = await this.#firstAnswer(exchange, nodes, body, snapshot)
    if (!failure) {
      exchange.trace.outcome = 'ok'
      return
    }
    if (provesDown(failure, snapshot.nodes.get(exchange.trace.node)))
      throw new ProxyError('node_unavailable', {}, { cause: failure.cause })
    failRequest(exchange, failure)
  }

  /** Null when the caller has the response of a node; else the failure of the last node. */
  async #firstAnswer(
    exchange: Exchange,
    nodes: readonly NodeView[],
    body: Buffer,
    snapshot: Snapshot,
  ): Promise<UpstreamFailure | null> {
    let failure: UpstreamFailure | null = null
    for (const node of nodes) {
      exchange.trace.node = node.name
      exchange.trace.attempts++
      const outcome = await this.#options.forwarder.send(
        this.#upstreamRequest(exchange, { node, isLast: node === nodes.at(-1) }, body, snapshot),
      )
      if (outcome.kind === 'client-gone') throw exchange.signal.reason ?? new ClientGone(outcome.reason)
      if (outcome.kind === 'done') return null
      failure = outcome
      if (outcome.kind === 'refused' && !isPage(outcome)) {
        sendRefusal(exchange, outcome)
        return null
      }
      if (outcome.kind === 'refused') this.#options.upstreams.of(node).recordRefusal(outcome)
      else this.#options.requestProbe(node.name)
      if (outcome.kind === 'node-failed' && outcome.committed) break
    }
    return failure
  }

  #upstreamRequest(
    exchange: Exchange,
    { node, isLast }: { readonly node: NodeView; readonly isLast: boolean },
    body: Buffer,
    { config }: Snapshot,
  ): UpstreamRequest {
    const { upstreams } = this.#options
    const { timeouts, headers } = config
    const upstream = upstreams.of(node)
    return {
      upstream,
      method: exchange.request.method ?? '',
      path: exchange.path,
      headers: requestHeaders({
        caller: exchange.request.headers,
        node: node.spec.headers,
        host: upstream.target.host,
        bodyBytes: body.length,
        requestId: exchange.id,
        via: upstream.via,
      }),
      body,
      timeouts,
      responseDeadline: upTo(
        timeouts.whole_answer,
        (reason) => (reason === 'lost' || reason === 'frozen') && !isLast,
      ),
      pulse: null,
      deadlineAt: exchange.startedAt + timeouts.request,
      signal: exchange.signal,
      onResend: () => {},
      receive: (head) => {
        exchange.trace.contentType = head.contentType
        if (head.status >= 400) return new HeldDelivery(head)
        return new PassDelivery(head, {
          response: exchange.response,
          idleWriteMs: timeouts.idle_write,
          rename: null,
          responseHeaders: {
            'x-request-id': exchange.publicId,
            ...(headers.node && { 'x-llamero-node': node.name }),
          },
        })
      },
    }
  }
}

/** @throws ProxyError `node_unavailable` when there is none. */
function atLeastOne(nodes: readonly NodeView[]): readonly NodeView[] {
  if (nodes.length === 0) throw new ProxyError('node_unavailable')
  return nodes
}
