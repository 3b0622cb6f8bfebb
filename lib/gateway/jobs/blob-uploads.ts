import type { NodeView } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import { FanOut } from '../body/fan-out.ts'
import type { RequestBodies } from '../body/request-bodies.ts'
import type { Streamed, StreamingBody } from '../body/streaming-body.ts'
import type { Caller } from '../http/authenticate.ts'
import { ClientGone, type Exchange } from '../http/exchange.ts'
import { replacementFor } from '../response/not-ollama.ts'
import type { UpstreamOutcome } from '../response/outcome.ts'
import type { NodeClient } from '../upstream/node-client.ts'
import { homesOf } from './blob-homes.ts'
import type { BlobIndex } from './blob-index.ts'

interface BlobUploadsOptions {
  readonly blobIndex: BlobIndex
  readonly client: NodeClient
}

/**
 * The time for one blob, in milliseconds: a model of hundreds of GB over a home uplink. A stalled upload has other
 * limits.
 */
const uploadMs = 24 * 3_600_000
const digestPattern = /^sha256[:-][0-9a-f]{64}$/i

/**
 * `/api/blobs/:digest`: files that a model is created from. They are sent directly to the nodes that will create it,
 * and not kept here.
 */
export class BlobUploads {
  readonly #options: BlobUploadsOptions

  constructor(options: BlobUploadsOptions) {
    this.#options = options
  }

  /** Answers `HEAD` and `POST`. @throws ProxyError as `#receive`. */
  async answer(exchange: Exchange, caller: Caller, bodies: RequestBodies, snapshot: Snapshot): Promise<void> {
    if (exchange.request.method === 'HEAD') return await this.#answerHead(exchange, caller, snapshot)
    await bodies.withStream(exchange, caller, snapshot.config, (body) =>
      this.#receive(exchange, caller, body, snapshot),
    )
  }

  /** `HEAD`: 200 when every node for the caller's blobs has this one. @throws ProxyError as `#receive`. */
  async #answerHead(exchange: Exchange, caller: Caller, snapshot: Snapshot): Promise<void> {
    const digest = digestOf(exchange.path)
    const { blobIndex } = this.#options
    const had = await Promise.all(
      homes(caller, snapshot).map((node) => blobIndex.has(node, digest, snapshot, exchange.signal)),
    )
    exchange.signal.throwIfAborted()
    answer(exchange, had.every(Boolean) ? 200 : 404)
  }

  /**
   * `POST`: 201 when every node for the caller's blobs has it now, 200 when all had it before; a refusal of all is
   * passed on.
   *
   * @throws ProxyError `bad_request` for an invalid digest, `no_place`, `node_failed` naming the nodes that do not
   * have it; the reason of the exchange's signal.
   */
  async #receive(exchange: Exchange, caller: Caller, body: StreamingBody, snapshot: Snapshot): Promise<void> {
    const path = `/api/blobs/${digestOf(exchange.path)}`
    const nodes = homes(caller, snapshot)
    exchange.trace.attempts = 1
    exchange.trace.node = nodes.map(({ name }) => name).join(',')
    const fanOut = new FanOut(body, nodes.length)
    const outcomes = await Promise.all(
      nodes.map(async (node, index) => {
        const branch = fanOut.branches[index]
        const outcome = await this.#send(exchange, node, path, branch ?? body, snapshot)
        branch?.leave()
        const isBroken = outcome.kind === 'node-failed' && outcome.fault === 'reset'
        return isBroken ? await this.#findAfterReset(node, outcome, exchange, snapshot) : outcome
      }),
    )
    exchange.signal.throwIfAborted()
    conclude(exchange, nodes, outcomes)
  }

  /** The write may have failed because the node had the blob and closed: then the response was lost, not the blob. */
  async #findAfterReset(
    node: NodeView,
    failed: UpstreamOutcome,
    exchange: Exchange,
    snapshot: Snapshot,
  ): Promise<UpstreamOutcome> {
    const digest = digestOf(exchange.path)
    if (!(await this.#options.blobIndex.has(node, digest, snapshot, exchange.signal))) return failed
    const contentType = 'application/json'
    return { kind: 'refused', status: 200, contentType, body: Buffer.alloc(0), retryAfterMs: null }
  }

  #send(
    exchange: Exchange,
    node: NodeView,
    path: string,
    body: Streamed,
    snapshot: Snapshot,
  ): Promise<UpstreamOutcome> {
    const { timeouts } = snapshot.config
    return this.#options.client.send(node, {
      method: 'POST',
      path,
      requestId: exchange.id,
      headers: { 'content-type': 'application/octet-stream' },
      body,
      // When Ollama has the blob, it responds without reading (CreateBlobHandler) and closes: a write would break the
      // response.
      expectsContinue: true,
      timeouts,
      silentMs: timeouts.whole_answer,
      wholeMs: uploadMs,
      canFailOver: () => false,
      signal: exchange.signal,
    })
  }
}

/** Accepts a digest also in the form of its file name, as Ollama does. @throws ProxyError `bad_request`. */
function digestOf(path: string): string {
  const digest = path.slice('/api/blobs/'.length)
  if (!digestPattern.test(digest)) throw new ProxyError('bad_request', { reason: 'invalid digest format' })
  return digest.toLowerCase().replace('-', ':')
}

function homes({ tenant }: Caller, snapshot: Snapshot): readonly NodeView[] {
  const nodes = homesOf(tenant, snapshot)
  if (nodes.length > 0) return nodes
  const reason = 'every suitable server is down or cordoned; an operator can see why with: llamero node list'
  throw new ProxyError('no_place', { action: 'take', model: '', reason })
}

function conclude(
  exchange: Exchange,
  nodes: readonly NodeView[],
  outcomes: readonly UpstreamOutcome[],
): void {
  if (outcomes.some(({ kind }) => kind === 'client-gone'))
    throw exchange.signal.reason ?? new ClientGone('the caller closed the connection')
  const refused = outcomes.flatMap((outcome) => (outcome.kind === 'refused' ? [outcome] : []))
  const statuses = new Set(refused.map(({ status }) => status))
  const first = refused[0]
  const agree = refused.length === nodes.length && first !== undefined
  if (agree && (statuses.size === 1 || [...statuses].every((status) => status < 300))) {
    // All had it (200), or some have it only now (201).
    const instead = first.status < 300 ? null : replacementFor(first, exchange.path)
    if (instead) throw instead
    answer(exchange, Math.max(...statuses), statuses.size === 1 ? first.body : undefined)
    return
  }
  const failed = nodes.filter((_node, index) => !isStored(outcomes[index]))
  const names = failed.map(({ name }) => name).join(', ')
  throw new ProxyError('node_failed', { reason: `the blob did not reach ${names}; send it again` })
}

function isStored(outcome: UpstreamOutcome | undefined): boolean {
  return outcome?.kind === 'refused' && outcome.status < 300
}

function answer(
  { response, publicId, trace }: Exchange,
  status: number,
  body: Buffer = Buffer.alloc(0),
): void {
  trace.outcome = status < 400 || status === 404 ? 'ok' : 'upstream_error'
  response.writeHead(status, {
    ...(body.length > 0 && { 'content-type': 'application/json; charset=utf-8' }),
    'content-length': body.length,
    'x-request-id': publicId,
  })
  response.end(body)
}
