import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { isUnlisted } from '../fleet/request-spec.ts'
import { type Scope, scopes } from '../fleet/scopes.ts'
import type { CurrentSnapshot, Snapshot } from '../fleet/snapshot.ts'
import { ChurnMap } from '../shared/churn-map.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'
import { isSpace, openBrace } from '../shared/json/json-bytes.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Via } from '../shared/net/via.ts'
import { admit, admitForm } from './admission/admit.ts'
import { namesFor } from './admission/request-options.ts'
import { onceProbed } from './admission/wait-until-probed.ts'
import { BodyBudget, type BodyShare } from './body/body-budget.ts'
import type { BodyLimits } from './body/body-buffer.ts'
import { encodingOf, readBody } from './body/read-body.ts'
import { scanBody } from './body/scan-body.ts'
import { SlowBodies } from './body/slow-bodies.ts'
import { StreamingBody } from './body/streaming-body.ts'
import type { Dispatch } from './dispatch/dispatch.ts'
import { logAccess } from './http/access-log.ts'
import { authenticate, type Caller, ownerOf } from './http/authenticate.ts'
import { answerCors } from './http/cors.ts'
import { ClientGone, type Exchange, openExchange } from './http/exchange.ts'
import { refuse } from './http/refuse.ts'
import { checkRequest } from './http/request-checks.ts'
import { type ForwardRoute, findRoute, type PassRoute, type Route } from './http/routes.ts'
import type { BlobUploads } from './jobs/blob-uploads.ts'
import { maxJobBytes } from './jobs/job-body.ts'
import type { JobEndpoint } from './jobs/job-endpoint.ts'
import { answerTokenCount } from './models/count-tokens.ts'
import { answerFromSnapshot } from './models/model-list.ts'
import type { Passthrough } from './models/passthrough.ts'
import { maxQuestionBytes, type ShowCache } from './models/show.ts'
import type { UnloadEverywhere } from './models/unload-everywhere.ts'

const inference: readonly Scope[] = ['inference']

type RouteWithBody = Extract<Route, { action: 'forward' | 'show' | 'count-tokens' | 'manage' }>

interface PipelineOptions {
  readonly snapshot: CurrentSnapshot
  readonly dispatch: Dispatch
  readonly shows: ShowCache
  readonly unloads: UnloadEverywhere
  readonly management: JobEndpoint
  readonly passes: Passthrough
  readonly blobs: BlobUploads
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly via: Via
  /** The data listener is bound to loopback. */
  readonly loopback: boolean
}

/** The path of a request, in its order. Each line is one file; whatever throws on the way ends in `refuse`. */
export class Pipeline {
  readonly #options: PipelineOptions
  readonly #bodies = new BodyBudget()
  readonly #slow: SlowBodies
  /** Exchanges whose last byte is not on its way yet. */
  readonly #open = new ChurnMap<Exchange, Exchange>()
  #idle: PromiseWithResolvers<void> | null = null

  constructor(options: PipelineOptions) {
    this.#options = options
    this.#slow = new SlowBodies(options.clock)
  }

  /** Answers one request. Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): Promise<void> {
    const exchange = openExchange(request, response, this.#options.clock, expectsContinue)
    this.#open.set(exchange, exchange)
    response.once('close', () => this.#close(exchange))
    try {
      await this.#walk(exchange)
    } catch (error) {
      this.#end(exchange, error)
    } finally {
      const snapshot = this.#options.snapshot.get()
      logAccess(exchange, snapshot, this.#options)
      limitFlush(response, snapshot.config.timeouts.idle_write)
    }
  }

  /** The exchange under way on a connection, if any. */
  on(socket: Socket): Exchange | undefined {
    for (const exchange of this.#open.values()) if (exchange.request.socket === socket) return exchange
    return undefined
  }

  /** Ends every open exchange, whatever it waits for, and tells the callers why. Returns how many there were. */
  abortAll(reason: ProxyError): number {
    for (const exchange of this.#open.values()) exchange.abort(reason)
    return this.#open.size
  }

  /** Resolves when no exchange is open: every answer is with the caller's kernel, or its connection is closed. */
  idle(): Promise<void> {
    if (this.#open.size === 0) return Promise.resolve()
    this.#idle ??= Promise.withResolvers()
    return this.#idle.promise
  }

  /** Bytes of request bodies held now. */
  get bodyBytes(): number {
    return this.#bodies.held
  }

  #close(exchange: Exchange): void {
    if (!exchange.response.writableFinished)
      exchange.abort(new ClientGone('the caller closed the connection'))
    this.#open.delete(exchange)
    if (this.#open.size > 0) return
    this.#idle?.resolve()
    this.#idle = null
  }

  /** Undefined when the answer is written. */
  #walk(exchange: Exchange): Promise<void> | undefined {
    const { clock, loopback, via } = this.#options
    const snapshot = this.#options.snapshot.get()
    const { request, trace } = exchange

    checkRequest(exchange)
    if (request.headers.via !== undefined && via.isLoop(request.headers.via))
      throw new ProxyError('loop_detected')
    if (answerCors(exchange, snapshot.config)) return undefined
    const route = findRoute(request.method ?? '', exchange.path, snapshot.config)
    trace.api = route.action === 'forward' ? route.api : route.kind
    const caller = authenticate(request, snapshot, {
      clock,
      loopback,
      open: isOpen(route),
      scopes: isForAdmins(route) ? scopes : inference,
    })
    trace.tenant = caller.tenant
    if (route.kind === 'management' && !caller.mayManage) throw new ProxyError('admin_scope_required')
    if (route.action === 'pass') return this.#pass(exchange, route, caller, snapshot)
    if (route.action === 'blob') return this.#walkWithBlob(exchange, caller, snapshot)
    if (route.action !== 'answer') return this.#walkWithBody(exchange, route, caller, snapshot)
    answerFromSnapshot(snapshot, route.answer, exchange, caller)
    return undefined
  }

  async #pass(exchange: Exchange, route: PassRoute, caller: Caller, snapshot: Snapshot): Promise<void> {
    const { passes } = this.#options
    const nodes = passes.nodesFor(exchange, route, caller, snapshot)
    using share = this.#shareOf(exchange, caller)
    const { limits } = snapshot.config
    const { bytes } = await readBody(exchange, { limits, share, slow: this.#slow })
    await passes.run(exchange, nodes, bytes, snapshot)
  }

  async #walkWithBlob(exchange: Exchange, caller: Caller, snapshot: Snapshot): Promise<void> {
    const { blobs, clock } = this.#options
    if (exchange.request.method === 'HEAD') return await blobs.answerHead(exchange, caller, snapshot)
    encodingOf(exchange, false)
    using share = this.#shareOf(exchange, caller)
    using upload = new StreamingBody(exchange, { config: snapshot.config, share, clock, slow: this.#slow })
    await blobs.receive(exchange, caller, upload, snapshot)
  }

  async #walkWithBody(
    exchange: Exchange,
    route: RouteWithBody,
    caller: Caller,
    snapshot: Snapshot,
  ): Promise<void> {
    if (route.action === 'forward' && route.body === 'form')
      return await this.#walkWithForm(exchange, route, caller, snapshot)
    const share = this.#shareOf(exchange, caller)
    try {
      const zstd = route.action === 'forward' && route.body === 'json-or-zstd'
      const limits = limitsFor(route, snapshot.config.limits)
      const { bytes } = await readBody(exchange, { limits, share, slow: this.#slow }, zstd)
      if (route.action === 'forward' && isUnlisted(route.api) && !mayBeObject(bytes))
        throw unknownPath(exchange)
      if (bytes.length === 0) throw new ProxyError('missing_body')
      await this.#answer(exchange, route, caller, bytes, snapshot)
    } finally {
      // By hand: V8 leaves `using` to its slow path, which would cost a hundredth of every request (Node 24).
      share[Symbol.dispose]()
    }
  }

  async #walkWithForm(
    exchange: Exchange,
    route: ForwardRoute,
    caller: Caller,
    snapshot: Snapshot,
  ): Promise<void> {
    const { dispatch, clock } = this.#options
    encodingOf(exchange, false)
    using share = this.#shareOf(exchange, caller)
    using upload = new StreamingBody(exchange, { config: snapshot.config, share, clock, slow: this.#slow })
    const admitted = await admitForm(exchange, route, caller, upload, snapshot)
    await dispatch.run(exchange, admitted, snapshot)
  }

  async #answer(
    exchange: Exchange,
    route: RouteWithBody,
    caller: Caller,
    body: Buffer,
    snapshot: Snapshot,
  ): Promise<void> {
    const { dispatch, shows, management, unloads } = this.#options
    switch (route.action) {
      case 'show':
        return await shows.answer(exchange, caller, body, snapshot)
      case 'manage':
        return await management.answer(exchange, route.job, caller, body, snapshot)
      case 'count-tokens':
        return await answerTokenCount(exchange, caller, body, snapshot)
      case 'forward': {
        const scan = scanBody(body, namesFor(route.api), exchange.signal)
        const scanned = { bytes: body, scanned: scan instanceof Promise ? await scan : scan }
        if (isUnlisted(route.api) && !scanned.scanned.model) throw unknownPath(exchange)
        const judge = (now: Snapshot) => ({ admission: admit(exchange, route, caller, scanned, now), now })
        const { admission: admitted, now } = await onceProbed(judge, exchange, this.#options)
        if (admitted.unloads === null) return await dispatch.run(exchange, admitted, now)
        return await unloads.answer(exchange, { api: route.api, ...admitted.unloads }, now)
      }
    }
    route satisfies never
  }

  #shareOf({ request }: Exchange, caller: Caller): BodyShare {
    return this.#bodies.open(ownerOf(caller, request.socket.remoteAddress))
  }

  #end(exchange: Exchange, thrown: unknown): void {
    const { trace, signal } = exchange
    // Whoever was interrupted may have thrown something of its own: the reason is what counts.
    const error: unknown = signal.aborted ? signal.reason : thrown
    trace.error = error
    if (error instanceof ClientGone) {
      trace.outcome = 'client_cancelled'
      exchange.response.destroy()
      return
    }
    refuse(exchange, error instanceof ProxyError ? error : new ProxyError('internal', {}, { cause: error }))
  }
}

/**
 * A caller who does not fetch the rest of an answer that is written holds a connection and memory: it is cut off after
 * `idleMs` without progress. Node lifts the limit when the answer is out. What goes out at once needs no timer.
 */
function limitFlush({ socket }: ServerResponse, idleMs: number): void {
  if (socket && socket.writableLength > 0) socket.setTimeout(idleMs)
}

/** A path that is not known is one only for bodies that name a model. */
function unknownPath({ path }: Exchange): ProxyError {
  return new ProxyError('unknown_path', { path: path.slice(0, 200) })
}

function mayBeObject(bytes: Buffer): boolean {
  let at = 0
  while (isSpace[bytes[at] ?? 0] === 1) at++
  return bytes[at] === openBrace
}

/** What only names models, or is kept in the store, is never as large as a conversation. */
function limitsFor({ action }: RouteWithBody, limits: BodyLimits): BodyLimits {
  const most = action === 'show' ? maxQuestionBytes : action === 'manage' ? maxJobBytes : limits.body_bytes
  return most < limits.body_bytes ? { ...limits, body_bytes: most } : limits
}

/** Whether a key may do with the scope `admin` alone. */
function isForAdmins(route: Route): boolean {
  return route.kind === 'management' || (route.action === 'pass' && route.to === 'identity')
}

function isOpen(route: Route): boolean {
  return route.action === 'answer' && route.open
}
