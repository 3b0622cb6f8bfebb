import { Agent, request } from 'undici'
import type { InventoryModel, LoadedModel, NodeSpec } from '../fleet/node.ts'
import type { Clock } from '../shared/clock.ts'
import type { Finding } from './health.ts'
import { readLoaded, readTags, readVersion } from './inventory.ts'
import { abortOf, codeOf, connectionTo, reasonOf, Unexpected } from './node-connection.ts'

/** What one look at a node brought; null for what it did not tell. */
export interface Look {
  readonly finding: Finding
  readonly version: string | null
  readonly models: readonly InventoryModel[] | null
  readonly loaded: readonly LoadedModel[] | null
}

const maxBodyBytes = 16 * 1024 * 1024
/** Longer than any probe interval: a connection that closes then tells that the node closed it. */
const keepAliveMs = 1_200_000

interface ProbeOptions {
  readonly spec: NodeSpec
  readonly clock: Clock
  /** Milliseconds a connection may take to come up. */
  readonly connectMs: number
  /** Called when the node closed a connection. */
  readonly hungUp: () => void
}

/** The connections over which the leader asks one node how it is, apart from those that carry requests. */
export class Probe {
  readonly #options: ProbeOptions
  readonly #agent: Agent

  constructor(options: ProbeOptions) {
    this.#options = options
    const { spec, connectMs, hungUp } = options
    this.#agent = new Agent({
      ...connectionTo(spec, connectMs),
      connections: 3,
      maxResponseSize: maxBodyBytes,
      keepAliveTimeout: keepAliveMs,
    })
    this.#agent.on('disconnect', (_origin, _targets, error) => {
      if (closedByPeer.has(error.code)) hungUp()
    })
  }

  /**
   * Asks for version, models on disk and models in memory at once. Never throws. Only the first two decide on health:
   * `/api/ps` stalls for seconds while an unload waits for memory, which is no proof of death (sheet ollama-api.md §2.5).
   */
  async look(timeoutMs: number, signal: AbortSignal): Promise<Look> {
    const asking = new AbortController()
    const stop = () => asking.abort(signal.reason)
    signal.addEventListener('abort', stop)
    const cancel = this.#options.clock.after(timeoutMs, () =>
      asking.abort(new Unexpected(`no answer within ${timeoutMs} ms`)),
    )
    const ask = <T>(path: string, read: (body: string) => T | null) =>
      Promise.race([this.#ask(path, read, asking.signal), abortOf(asking.signal)])
    const [version, models, loaded] = await Promise.allSettled([
      ask('/api/version', readVersion),
      ask('/api/tags', readTags),
      ask('/api/ps', readLoaded),
    ])
    cancel()
    signal.removeEventListener('abort', stop) // it lives as long as the prober: listeners must not pile up
    const failed = [version, models].find((answer) => answer.status === 'rejected')
    return {
      finding: failed ? bad(failed.reason) : { good: true },
      version: answered(version),
      models: answered(models),
      loaded: answered(loaded),
    }
  }

  /** Closes every connection, also those in use. */
  destroy(): void {
    void this.#agent.destroy()
  }

  async #ask<T>(path: string, read: (body: string) => T | null, signal: AbortSignal): Promise<T> {
    const { url, headers } = this.#options.spec
    const answer = await request(url + path, { dispatcher: this.#agent, headers, signal })
    if (answer.statusCode !== 200) {
      await answer.body.dump()
      throw new Unexpected(`answered ${answer.statusCode} to GET ${path}`)
    }
    const value = read(await answer.body.text())
    if (value === null) throw new Unexpected(`its answer to GET ${path} is not Ollama's`)
    return value
  }
}

const closedByPeer: ReadonlySet<string> = new Set(['UND_ERR_SOCKET', 'ECONNRESET'])

function bad(error: unknown): Finding {
  const code = codeOf(error)
  const isTooLarge = code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE'
  const reason = isTooLarge ? `an answer is larger than ${maxBodyBytes} bytes` : reasonOf(error)
  return { good: false, reason, refused: code === 'ECONNREFUSED' }
}

function answered<T>(answer: PromiseSettledResult<T>): T | null {
  return answer.status === 'fulfilled' ? answer.value : null
}
