import type { NodeView } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { NodeClient } from '../upstream/node-client.ts'

const maxAsked = 8
/** Milliseconds for the response: the node only looks for a file. */
const answerMs = 2000

/** Finds the nodes that have blobs, which are in no inventory until a model names them. */
export class BlobIndex {
  readonly #client: NodeClient

  constructor(client: NodeClient) {
    this.#client = client
  }

  /**
   * The nodes of `names` that have all `digests`.
   *
   * @throws ProxyError `bad_request` naming a blob that is missing, when none has all; the signal's reason.
   */
  async find(
    names: readonly string[],
    digests: readonly string[],
    snapshot: Snapshot,
    signal: AbortSignal,
  ): Promise<ReadonlySet<string>> {
    const nodes = names.flatMap((name) => snapshot.nodes.get(name) ?? [])
    const having = new Set<string>()
    let furthest = 0
    const waiting = nodes.values()
    const askNext = async () => {
      for (const node of waiting) {
        const had = await this.#countHad(node, digests, snapshot, signal)
        if (had === digests.length) having.add(node.name)
        furthest = Math.max(furthest, had)
      }
    }
    await Promise.all(Array.from({ length: maxAsked }, askNext))
    signal.throwIfAborted()
    if (having.size > 0) return having
    throw new ProxyError('bad_request', {
      reason: `no Ollama server that could create this model has ${digests[furthest]}; send it first`,
    })
  }

  /** How many digests, from the first on, the node has. */
  async #countHad(
    node: NodeView,
    digests: readonly string[],
    snapshot: Snapshot,
    signal: AbortSignal,
  ): Promise<number> {
    for (const [index, digest] of digests.entries()) {
      if (signal.aborted || !(await this.has(node, digest, snapshot, signal))) return index
    }
    return digests.length
  }

  /** Whether a node has a blob; also false when it does not respond within two seconds. */
  async has(node: NodeView, digest: string, snapshot: Snapshot, signal: AbortSignal): Promise<boolean> {
    const outcome = await this.#client.send(node, {
      method: 'HEAD',
      path: `/api/blobs/${digest}`,
      requestId: 'llamero-blobs',
      timeouts: snapshot.config.timeouts,
      silentMs: answerMs,
      wholeMs: answerMs,
      signal,
    })
    return outcome.kind === 'refused' && outcome.status === 200
  }
}
