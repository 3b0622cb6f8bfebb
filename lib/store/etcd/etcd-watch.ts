import type { Clock } from '../../shared/clock.ts'
import { StoreError, type Watch, type WatchHandler } from '../store.ts'
import { storeErrorOf } from './etcd-errors.ts'
import {
  changeOf,
  type EtcdClient,
  endStream,
  type WatchMessage,
  type WatchStream,
  watchRequest,
} from './etcd3.ts'

/** Deadlines of a call that a watch may take to stand: the stream has no deadline of its own. */
const openDeadlines = 2

/**
 * One watch on one raw stream: opening, then standing, then ended. It never resumes by itself: only the informer knows
 * which changes are applied (docs/etcd.md#informer).
 */
export class EtcdWatch implements Watch {
  readonly #stream: WatchStream
  readonly #from: bigint
  readonly #handler: WatchHandler
  readonly #opened = Promise.withResolvers<void>()
  readonly #open: Set<EtcdWatch>
  #state: 'opening' | 'standing' | 'ended' = 'opening'

  private constructor(stream: WatchStream, from: bigint, handler: WatchHandler, open: Set<EtcdWatch>) {
    this.#stream = stream
    this.#from = from
    this.#handler = handler
    this.#open = open.add(this)
    // Before anything else, and for good: a stream without an error listener ends the process.
    stream.on('error', (error) => this.#fail(storeErrorOf('watch', error)))
    stream.on('end', () => this.#fail(new StoreError('unavailable', 'etcd ended the watch')))
    stream.on('data', (message) => this.#receive(message))
  }

  /**
   * @param open the watch is in this set until it ends.
   * @throws StoreError, and the errors of etcd3
   */
  static async open(
    client: EtcdClient,
    request: { readonly prefix: string; readonly from: bigint; readonly handler: WatchHandler },
    clock: Clock,
    deadlineMs: number,
    open: Set<EtcdWatch>,
  ): Promise<EtcdWatch> {
    const openMs = openDeadlines * deadlineMs
    const { prefix, from, handler } = request
    const watch = new EtcdWatch(await client.watchStream(), from, handler, open)
    const cancelTimer = clock.after(openMs, () =>
      watch.#fail(new StoreError('unavailable', `etcd did not confirm the watch within ${openMs} ms`)),
    )
    watch.#stream.write(watchRequest(prefix, from))
    try {
      await watch.#opened.promise
      return watch
    } finally {
      cancelTimer()
    }
  }

  close(): void {
    if (this.#state === 'opening') this.#opened.reject(new StoreError('closed', 'the watch was closed'))
    this.#end()
  }

  #receive(message: WatchMessage): void {
    if (this.#state === 'ended') return
    // Checked first: etcd may say "created" and "canceled" in one message.
    if (message.canceled) this.#cancelled(message)
    else if (message.created) this.#stand(BigInt(message.header.revision))
    else if (message.events.length > 0) this.#deliver(message.events)
  }

  #cancelled({ compact_revision, cancel_reason }: WatchMessage): void {
    if (compact_revision === '0') {
      this.#fail(new StoreError('denied', `etcd refused the watch: ${cancel_reason || 'no reason given'}`))
      return
    }
    this.#opened.resolve()
    this.#end()
    this.#handler.broken('compacted')
  }

  #stand(revision: bigint): void {
    this.#state = 'standing'
    this.#opened.resolve()
    // A store behind its own earlier revision was wiped or restored, or this member lags: the watch would wait in silence.
    if (revision + 1n < this.#from) {
      this.#fail(
        new StoreError('unavailable', `etcd is at revision ${revision}, behind the watch's ${this.#from}`),
      )
    }
  }

  #deliver(events: WatchMessage['events']): void {
    const changes = events.map(changeOf)
    const last = events.at(-1)
    if (last) this.#handler.changed(changes, BigInt(last.kv.mod_revision))
  }

  #fail(error: StoreError): void {
    const state = this.#state
    if (state === 'ended') return
    this.#end()
    if (state === 'opening') this.#opened.reject(error)
    else this.#handler.broken('lost', error)
  }

  #end(): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    endStream(this.#stream)
    this.#open.delete(this)
  }
}
