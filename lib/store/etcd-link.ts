import { InterceptingCall, type Interceptor, logVerbosity, setLogVerbosity } from '@grpc/grpc-js'
import { noop } from 'cockatiel'
import { Etcd3, type IOptions } from 'etcd3'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import { storeErrorOf } from './etcd-errors.ts'
import { StoreError } from './store.ts'

/**
 * Milliseconds after which a call counts as unanswered. When the raft leader freezes, a client may ask all three members
 * in vain, the frozen one last: three deadlines and the callers' pauses have to fit into the three seconds within which
 * control goes on.
 */
const deadlineMs = 750

// What fails is told by us, in the log: gRPC would print lines of its own on standard error.
setLogVerbosity(logVerbosity.NONE)

/** PEM contents. A client certificate, when etcd asks for one, needs both `cert` and `key`. */
interface EtcdTls {
  readonly ca: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
}

export interface EtcdOptions {
  /** `http://host:port` or `https://host:port`, at least one. */
  readonly endpoints: readonly string[]
  readonly tls?: EtcdTls
  readonly clock: Clock
  readonly log: Log
  readonly metrics?: Metrics
}

/**
 * The connection to etcd: a client for one endpoint, thrown away at the first call without an answer; the next call gets
 * a fresh one for the next endpoint and stays there while it answers.
 *
 * A fresh client is the only cure for a peer that accepts and never answers (grpc-js has no connect timeout, sheet
 * etcd.md §2). Nothing is retried here: a transaction may have happened, and every caller has its own patience.
 */
export class EtcdLink {
  readonly #options: EtcdOptions
  #turn = 0
  #client: Etcd3 | null = null
  #closed = false
  #answered = true

  constructor(options: EtcdOptions) {
    this.#options = options
  }

  /**
   * Runs one operation.
   *
   * @throws StoreError only
   */
  async call<T>(operation: string, task: (client: Etcd3) => Promise<T>): Promise<T> {
    if (this.#closed) throw closed()
    this.#client ??= this.#connect()
    const client = this.#client
    const { clock, metrics } = this.#options
    const startedMs = clock.now()
    try {
      const result = await task(client)
      if (this.#closed) throw closed()
      this.#note(true)
      return result
    } catch (cause) {
      if (this.#closed) throw closed()
      const error = storeErrorOf(operation, cause)
      if (error.fault === 'unavailable') this.#drop(client, error)
      else this.#note(true)
      throw error
    } finally {
      metrics?.storeSeconds.observe({ op: operation }, (clock.now() - startedMs) / 1000)
    }
  }

  /** Later calls reject with `closed`; calls under way end within their deadline. Streams are their owners' to end. */
  close(): void {
    this.#closed = true
    this.#client?.close()
    this.#client = null
  }

  get closed(): boolean {
    return this.#closed
  }

  #connect(): Etcd3 {
    return new Etcd3(clientOptions(this.#endpoint, this.#options.tls))
  }

  get #endpoint(): string {
    const { endpoints } = this.#options
    return endpoints[this.#turn % endpoints.length] ?? ''
  }

  /** Of the calls that fail together only the first drops the client they shared; open streams outlive it. */
  #drop(client: Etcd3, error: StoreError): void {
    if (client !== this.#client) return
    this.#note(false, error)
    client.close()
    this.#client = null
    this.#turn += 1
  }

  #note(answered: boolean, error?: StoreError): void {
    const { log, metrics } = this.#options
    metrics?.storeUp.set(answered ? 1 : 0)
    if (answered === this.#answered) return
    this.#answered = answered
    if (answered) log.info('etcd answers again', { endpoint: this.#endpoint })
    else log.warn('etcd does not answer', { endpoint: this.#endpoint, error })
  }
}

function closed(): StoreError {
  return new StoreError('closed', 'the store is closed')
}

/** Every number is measured, sheet etcd.md §2. */
export function clientOptions(endpoint: string, tls: EtcdTls | undefined): IOptions {
  return {
    hosts: [endpoint.replace(/\/+$/, '')],
    ...(tls && { credentials: credentialsOf(tls) }),
    // A function: a deadline is a date (of the machine's clock: gRPC measures it), and a fixed one would soon be past.
    defaultCallOptions: ({ service }) =>
      service === 'Watch' ? { interceptors: [requireLeader] } : { deadline: Date.now() + deadlineMs },
    // etcd3 would retry transactions, and a transaction retried after it went in says it failed.
    faultHandling: { global: noop, host: () => noop },
    grpcOptions: {
      // etcd ends connections that ping more often than every 5 s.
      'grpc.keepalive_time_ms': 5500,
      'grpc.keepalive_timeout_ms': 2000,
      'grpc.keepalive_permit_without_calls': 1,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.min_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.max_receive_message_length': 64 * 1024 * 1024,
      // Shared, a connection that hangs while it opens would be handed to the next client too.
      'grpc.use_local_subchannel_pool': 1,
    },
  }
}

function credentialsOf({ ca, cert, key }: EtcdTls): NonNullable<IOptions['credentials']> {
  return { rootCertificate: ca, ...(cert && { certChain: cert }), ...(key && { privateKey: key }) }
}

/** Without it, a watch on a member that lost its quorum stays silent instead of ending. */
const requireLeader: Interceptor = (options, nextCall) =>
  new InterceptingCall(nextCall(options), {
    start(metadata, listener, next) {
      metadata.set('hasleader', 'true')
      next(metadata, listener)
    },
  })
