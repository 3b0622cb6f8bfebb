import type { NodeView } from '../../fleet/node.ts'
import type { Api, RequestSpec } from '../../fleet/request-spec.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import { sendJson } from '../http/error-response.ts'
import type { Exchange } from '../http/exchange.ts'
import type { NodeClient } from '../upstream/node-client.ts'
import { unload } from '../upstream/unload.ts'

interface UnloadEverywhereOptions {
  readonly client: NodeClient
  readonly clock: Clock
  /** See UpstreamAttemptsOptions. */
  readonly requestProbe: (node: string) => void
}

/** The model to unload: its canonical name, and as the caller wrote it. */
type Wanted = Pick<RequestSpec, 'api' | 'model'> & { readonly written: string }

/**
 * `ollama stop`: unloads a model from every node, and responds when it is unloaded. The nodes are asked directly,
 * without the store.
 */
export class UnloadEverywhere {
  readonly #options: UnloadEverywhereOptions

  constructor(options: UnloadEverywhereOptions) {
    this.#options = options
  }

  /** @throws ProxyError `conflict` where it is still in use, `node_failed`; the reason of the exchange's signal. */
  async answer(exchange: Exchange, wanted: Wanted, snapshot: Snapshot): Promise<void> {
    const { model } = wanted
    exchange.trace.model = model
    // A copy on disk may have been loaded since the last probe, and a node with health `down` may be up.
    const nodes = [...snapshot.nodes.values()].filter(
      ({ spec, departed, onDisk, resident }) =>
        spec.state !== 'off' && !departed && (onDisk.has(model) || resident.has(model)),
    )
    const kept = await Promise.all(nodes.map((node) => this.#unload(exchange, node, model, snapshot)))
    const busy = nodes.filter((_, nth) => kept[nth]?.length).map(({ name }) => name)
    const silent = nodes.filter(
      ({ health, resident }, nth) => kept[nth] === null && health !== 'down' && resident.has(model),
    )
    if (busy.length > 0)
      throw new ProxyError('conflict', {
        reason: `model '${model}' is still in use on ${busy.join(', ')}: it is unloaded there when its requests have ended`,
      })
    if (silent.length > 0)
      throw new ProxyError('node_failed', {
        reason: `${silent.map(({ name }) => name).join(', ')} did not say whether model '${model}' was unloaded`,
      })
    const body = JSON.stringify(unloadResponse(wanted, this.#options.clock.date()))
    sendJson(exchange.response, 200, body, { 'x-request-id': exchange.publicId })
    exchange.trace.outcome = 'ok'
  }

  async #unload(
    { id, signal }: Exchange,
    node: NodeView,
    model: string,
    { config: { timeouts } }: Snapshot,
  ): Promise<readonly string[] | null> {
    const { client, clock, requestProbe } = this.#options
    const kept = await unload([model], {
      clock,
      signal,
      send: async ({ method, path, body, limitMs }) => {
        signal.throwIfAborted()
        const headers = { 'content-type': 'application/json' }
        const question = { method, path, requestId: id, headers, body: Buffer.from(body), timeouts, signal }
        const outcome = await client.send(node, { ...question, silentMs: limitMs, canFailOver: () => false })
        signal.throwIfAborted()
        return outcome
      },
    })
    requestProbe(node.name)
    return kept
  }
}

/** The response of each endpoint of Ollama (server/routes.go). */
function unloadResponse({ api: client, written }: Wanted, date: Date): object {
  const end = { done: true, done_reason: 'unload' }
  const head = { model: written, created_at: date.toISOString() }
  const responses: Partial<Record<Api, object>> = {
    ollama_chat: { ...head, message: { role: 'assistant', content: '' }, ...end },
    ollama_embed: { model: written, embeddings: [] },
    ollama_embeddings: { embedding: [] },
  }
  return responses[client] ?? { ...head, response: '', ...end }
}
