import type { Config } from '../../fleet/config.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import { type Caller, ownerOf } from '../http/authenticate.ts'
import type { Exchange } from '../http/exchange.ts'
import type { DataEndpoint } from '../http/find-endpoint.ts'
import { BodyBudget, type BodyShare } from './body-budget.ts'
import type { BodyBuffer } from './body-buffer.ts'
import { encodingOf, readBody } from './read-body.ts'
import { SlowBodies } from './slow-bodies.ts'
import { StreamingBody } from './streaming-body.ts'

/** Reads the bodies of all requests, within one budget of memory and one watch for slow callers. */
export class RequestBodies {
  readonly #budget = new BodyBudget()
  readonly #slow: SlowBodies
  readonly #clock: Clock

  constructor(clock: Clock) {
    this.#clock = clock
    this.#slow = new SlowBodies(clock)
  }

  /** Bytes of request bodies held now. */
  get heldBytes(): number {
    return this.#budget.held
  }

  /** The part of the budget that counts for one request. To be disposed when the request is over. */
  share({ request }: Exchange, caller: Caller): BodyShare {
    return this.#budget.open(ownerOf(caller, request.socket.remoteAddress))
  }

  /** Reads the whole body of a request for a endpoint into `share`. @throws ProxyError those of `readBody`. */
  read(
    exchange: Exchange,
    endpoint: DataEndpoint,
    share: BodyShare,
    { limits }: Config,
  ): Promise<BodyBuffer> {
    const zstd = endpoint.action === 'forward' && endpoint.body === 'json-or-zstd'
    return readBody(exchange, { limits, share, slow: this.#slow }, zstd)
  }

  /**
   * Reads a whole body, which must not be empty, and holds it until `use` is over.
   *
   * @param atMost bytes that it may have, within `limits.body_bytes`.
   * @throws ProxyError those of `readBody`, and `missing_body`.
   */
  async withWhole(
    exchange: Exchange,
    caller: Caller,
    { limits }: Config,
    use: (bytes: Buffer) => Promise<void>,
    atMost = limits.body_bytes,
  ): Promise<void> {
    using share = this.share(exchange, caller)
    const body_bytes = Math.min(atMost, limits.body_bytes)
    const { bytes } = await readBody(exchange, { limits: { ...limits, body_bytes }, share, slow: this.#slow })
    if (bytes.length === 0) throw new ProxyError('missing_body')
    await use(bytes)
  }

  /** Gives `use` a body that it passes on while it comes. @throws ProxyError `unsupported_encoding`. */
  async withStream(
    exchange: Exchange,
    caller: Caller,
    config: Config,
    use: (body: StreamingBody) => Promise<void>,
  ): Promise<void> {
    encodingOf(exchange, false)
    using share = this.share(exchange, caller)
    using body = new StreamingBody(exchange, { config, share, clock: this.#clock, slow: this.#slow })
    await use(body)
  }
}
