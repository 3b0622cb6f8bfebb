import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import type { Metrics } from '../../shared/metrics.ts'
import type { Random } from '../../shared/random.ts'
import { Condition } from '../condition.ts'
import { StoreError } from '../store.ts'
import { CallDeadlines } from './call-deadlines.ts'
import { isReady, whenReady } from './etcd-channel.ts'
import { EtcdCredentials, type EtcdTls } from './etcd-credentials.ts'
import { adviceOn, storeErrorOf, troubleOf } from './etcd-errors.ts'
import { EtcdClient } from './etcd3.ts'
import { reconnectPauseMs } from './reconnect-pause.ts'

/** Milliseconds between two reminders while the operator has not acted. */
const repeatMs = 60_000

/** Milliseconds without a refusal after which a write that succeeds shows that etcd takes writes again. */
const settleMs = 2500

type Effect = 'read' | 'write' | 'other'

export interface EtcdOptions {
  /** `http://host:port` or `https://host:port`, at least one. */
  readonly endpoints: readonly string[]
  /** Called for each new client: certificates are rotated by replacing their files. May throw. */
  readonly tls?: () => EtcdTls
  readonly clock: Clock
  /** Spreads the connections of many instances. */
  readonly random?: Random
  readonly log: Log
  readonly metrics?: Metrics
}

/**
 * The connection to etcd: a client for one endpoint, thrown away at the first call without an answer; the next call gets
 * a fresh one for the next endpoint and stays there while it answers.
 *
 * A fresh client is the only cure for a peer that accepts and never answers (grpc-js has no connect timeout,
 * docs/etcd.md#connection). Nothing is retried here: a transaction may have happened, and every caller has its own deadline.
 */
export class EtcdLink {
  readonly #options: EtcdOptions
  #turn = 0
  #client: EtcdClient | null = null
  readonly #credentials: EtcdCredentials
  readonly #patience: CallDeadlines
  readonly condition: Condition
  /** Whether the endpoint accepted the client's connection and has not answered a call yet. */
  #isTaken = false
  /** Endpoints that did not accept the last connection. The next round skips them once. */
  readonly #silent = new Set<string>()
  #closed = false
  #answered = true
  /** The last advice in the log, and until when not to repeat it. */
  #advised: { readonly remedy: string | null; readonly until: number } = { remedy: null, until: 0 }
  #instances = 1
  /** Failures in a row, and until when no client is made. */
  #failures = 0
  #restUntil = Number.NEGATIVE_INFINITY

  constructor(options: EtcdOptions) {
    this.#options = options
    this.#credentials = new EtcdCredentials(options)
    this.condition = new Condition({ ...options, settleMs })
    this.#patience = new CallDeadlines(options.endpoints.length, () => options.clock.now())
  }

  /**
   * Runs one operation.
   *
   * @param effect `read`: it changes nothing; `write`: it shows whether keys can be written; `other`: neither
   * @throws StoreError only
   */
  async call<T>(operation: string, effect: Effect, task: (client: EtcdClient) => Promise<T>): Promise<T> {
    if (this.#closed) throw closed()
    if (this.#options.clock.now() < this.#restUntil) throw resting()
    this.#client ??= this.#connect()
    const client = this.#client
    const { clock, metrics } = this.#options
    const startedMs = clock.now()
    const wasConnected = isReady(client.channel)
    try {
      const result = await task(client)
      if (this.#closed) throw closed()
      this.#note(true)
      if (effect === 'read') this.condition.read()
      if (effect === 'write') this.condition.wrote()
      this.#patience.answered(clock.now() - startedMs)
      if (client === this.#client) this.#isTaken = false
      return result
    } catch (cause) {
      if (this.#closed) throw closed()
      const error = storeErrorOf(operation, cause)
      if (error.fault !== 'unavailable') this.#refused(error, effect)
      else if (wasConnected || !this.#isWorthKeeping(client))
        this.#drop(client, clock.now() - startedMs, error)
      throw error
    } finally {
      metrics?.storeSeconds.observe({ op: operation }, (clock.now() - startedMs) / 1000)
    }
  }

  /** Milliseconds after which a call counts as unanswered now. */
  get deadlineMs(): number {
    return this.#patience.deadlineMs(true)
  }

  /** A lease was granted: deadlines leave it room. */
  granted(ttlMs: number): void {
    this.#patience.granted(ttlMs)
  }

  /** Sets how many instances use the same etcd: the more, the longer each pauses after a failure. */
  sharedBy(instances: number): void {
    this.#instances = instances
  }

  /** A stream of `client` ended with an error. If etcd is unreachable for it, the whole connection is dropped. */
  lost(client: EtcdClient, error: Error | undefined): void {
    if (error instanceof StoreError && error.fault === 'unavailable') this.#drop(client, 0)
  }

  /** A separate client for one endpoint; the caller closes it. @throws StoreError without usable certificates */
  clientOf(endpoint: string): EtcdClient {
    return new EtcdClient(endpoint, this.#credentials.current(), (isConnected) =>
      this.#patience.deadlineMs(isConnected),
    )
  }

  /** Later calls reject with `closed`; running calls end within their deadline. The owner of a stream ends it. */
  close(): void {
    this.#closed = true
    this.#client?.close()
    this.#client = null
  }

  get closed(): boolean {
    return this.#closed
  }

  #connect(): EtcdClient {
    try {
      const client = this.clientOf(this.#endpoint)
      this.#isTaken = false
      whenReady(client.channel, () => {
        if (client === this.#client) this.#isTaken = true
      })
      return client
    } catch (error) {
      if (error instanceof StoreError) this.#note(false, error)
      throw error
    }
  }

  get #endpoint(): string {
    return this.#endpointAt(this.#turn)
  }

  #endpointAt(turn: number): string {
    const { endpoints } = this.#options
    return endpoints[turn % endpoints.length] ?? ''
  }

  /** On a slow network a call's time may pass until the connection is made: the next call can use it. */
  #isWorthKeeping(client: EtcdClient): boolean {
    return this.#patience.isPatient && isReady(client.channel)
  }

  /** Of calls that fail together, only the first drops their shared client; open streams outlive it. */
  #drop(client: EtcdClient, tookMs: number, error?: StoreError): void {
    if (client !== this.#client) return
    this.#patience.unanswered(tookMs)
    if (error) this.#note(false, error)
    const { clock, random = Math.random } = this.#options
    this.#turnOn()
    client.close()
    this.#client = null
    this.#failures += 1
    this.#restUntil = clock.now() + reconnectPauseMs(this.#instances, this.#failures, random())
  }

  /**
   * Goes on to the next endpoint. While members elect a new raft leader, all but the lost member accept connections and
   * answer nothing: asking the lost member again first would take longer than the election.
   */
  #turnOn(): void {
    const { endpoints } = this.#options
    const left = this.#endpoint
    let steps = 1
    while (steps < endpoints.length && this.#silent.delete(this.#endpointAt(this.#turn + steps))) steps++
    // All others were silent as well: it is the turn of the first of them.
    this.#turn += steps < endpoints.length ? steps : 1
    if (!this.#isTaken) this.#silent.add(left)
  }

  #refused(error: StoreError, effect: Effect): void {
    const trouble = troubleOf(error.cause ?? error, effect === 'read')
    if (trouble) this.condition.refused(trouble)
    this.#note(true, trouble ? undefined : error)
  }

  /** Logs once when etcd stops or resumes answering, and once a minute while only the operator can mend it. */
  #note(answered: boolean, error?: StoreError): void {
    const { log, metrics } = this.#options
    metrics?.storeUp.set(answered ? 1 : 0)
    if (answered) this.#failures = 0
    const hasChanged = answered !== this.#answered
    this.#answered = answered
    const endpoint = this.#endpoint
    if (error && (this.#isAdviceDue(error) || (hasChanged && !answered)))
      log.warn(answered ? 'etcd refuses calls' : 'etcd does not answer', { endpoint, error })
    else if (hasChanged && answered) log.info('etcd answers again', { endpoint })
  }

  #isAdviceDue({ cause }: StoreError): boolean {
    const remedy = adviceOn(cause)
    if (remedy === null) return false
    const now = this.#options.clock.now()
    const isDue = remedy !== this.#advised.remedy || now >= this.#advised.until
    if (isDue) this.#advised = { remedy, until: now + repeatMs }
    return isDue
  }
}

function closed(): StoreError {
  return new StoreError('closed', 'the store is closed')
}

function resting(): StoreError {
  return new StoreError(
    'unavailable',
    'etcd did not answer; this instance waits for its turn to reconnect, since many instances share this etcd',
  )
}
