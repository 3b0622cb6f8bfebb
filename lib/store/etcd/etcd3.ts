import type { SecureContext } from 'node:tls'
import { noop } from 'cockatiel'
import {
  CompareTarget,
  Etcd3,
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  GRPCDataLossError,
  GRPCFailedPreconditionError,
  GRPCInvalidArgumentError,
  GRPCNotImplementedError,
  GRPCResourceExhastedError,
  GRPCUnauthenticatedError,
  type ICompare,
  type IEvent,
  type IKeyValue,
  type IRangeRequest,
  type IRequestOp,
  type IRequestStream,
  type ITxnResponse,
  type IWatchRequest,
  type IWatchResponse,
  Range,
  SortOrder,
  SortTarget,
} from 'etcd3'
import {
  type Change,
  type Committed,
  type Compare,
  type Entry,
  type Lease,
  type Operation,
  StoreError,
  type StoreFault,
  type Transaction,
} from '../store.ts'
import { EtcdChannel, isReady, requireLeader } from './etcd-channel.ts'

/** Entries per page of a list: a page has to fit into one message and one deadline. */
const pageSize = 500

export type WatchMessage = IWatchResponse

/** The raw stream of one watch. */
export type WatchStream = Awaited<ReturnType<Etcd3['watchClient']['watch']>>

/**
 * One connection to one endpoint of etcd, and its calls in the words of `store.ts`. This is the only file that imports the
 * package `etcd3`, and it uses the package for the wire only (docs/decisions/0003-etcd3-wire-only.md).
 *
 * Calls reject with the errors of the package: `storeErrorOf` turns them into a StoreError.
 */
export class EtcdClient {
  readonly channel: EtcdChannel
  readonly #etcd: Etcd3

  /**
   * @param tls null: in clear
   * @param deadlineMs milliseconds after which a call counts as unanswered, asked at each call
   */
  constructor(endpoint: string, tls: SecureContext | null, deadlineMs: (isConnected: boolean) => number) {
    const host = endpoint.replace(/\/+$/, '')
    const channel = new EtcdChannel(host, tls)
    this.channel = channel
    this.#etcd = new Etcd3({
      hosts: [host],
      // gRPC takes a deadline as a date of the machine's clock.
      defaultCallOptions: ({ service }) =>
        service === 'Watch'
          ? { interceptors: [requireLeader] }
          : { deadline: Date.now() + deadlineMs(isReady(channel)) },
      // etcd3 would retry transactions, and a transaction retried after it went in says it failed.
      faultHandling: { global: noop, host: () => noop },
      grpcOptions: { channelOverride: channel },
    })
  }

  async get(key: string): Promise<Entry | null> {
    const { kvs } = await this.#etcd.kv.range({ key: Buffer.from(key) })
    return kvs[0] ? entryOf(kvs[0]) : null
  }

  /** Reads every page at the revision of the first one: together they are one moment. */
  async list(prefix: string): Promise<{ entries: Entry[]; revision: bigint }> {
    const { kv } = this.#etcd
    const entries: Entry[] = []
    const range = rangeOf(prefix)
    let page = await kv.range({ ...range, limit: pageSize })
    const { revision } = page.header
    for (;;) {
      for (const kv of page.kvs) entries.push(entryOf(kv))
      const last = page.kvs.at(-1)
      if (!page.more || !last) return { entries, revision: BigInt(revision) }
      // The smallest key after the last one.
      const key = Buffer.concat([last.key, Buffer.of(0)])
      page = await kv.range({ ...range, key, limit: pageSize, revision })
    }
  }

  async newest(prefix: string): Promise<{ count: number; modified: bigint }> {
    const { count, kvs } = await this.#etcd.kv.range({
      ...rangeOf(prefix),
      limit: 1,
      keys_only: true,
      sort_target: SortTarget.Mod,
      sort_order: SortOrder.Descend,
    })
    return { count: Number(count), modified: BigInt(kvs[0]?.mod_revision ?? 0) }
  }

  async commit({ when, apply, otherwise = [] }: Transaction): Promise<Committed> {
    const response = await this.#etcd.kv.txn({
      compare: when.map(comparison),
      success: apply.map(request),
      failure: otherwise.map((key) => ({ request_range: { key: Buffer.from(key) } })),
    })
    return committedOf(response)
  }

  async grant(ttlMs: number): Promise<Lease> {
    const { ID, TTL } = await this.#etcd.leaseClient.leaseGrant({ TTL: Math.ceil(ttlMs / 1000) })
    return { id: ID, ttlMs: Number(TTL) * 1000 }
  }

  /**
   * Sends one keepalive and waits for its answer, until the call's deadline.
   *
   * @returns the remaining milliseconds, 0 when the lease is gone
   */
  async keepAlive(lease: string): Promise<number> {
    const stream = await this.#etcd.leaseClient.leaseKeepAlive()
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    stream.on('error', reject)
    stream.on('end', () => reject(new StoreError('unavailable', 'etcd ended the keepalive')))
    stream.on('data', ({ TTL }) => resolve(Number(TTL) * 1000))
    stream.write({ ID: lease })
    try {
      return await promise
    } finally {
      endStream(stream)
    }
  }

  async revoke(lease: string): Promise<void> {
    await this.#etcd.leaseClient.leaseRevoke({ ID: lease })
  }

  /** A stream without an error listener ends the process: add one before anything else. */
  watchStream(): Promise<WatchStream> {
    return this.#etcd.watchClient.watch()
  }

  /** The errors and alarms in the status of this member. */
  async alarms(): Promise<readonly string[]> {
    const { errors } = await this.#etcd.maintenance.status()
    return errors
  }

  /** The name of this member; "" when it is not in its own list. */
  async memberName(): Promise<string> {
    const { maintenance, cluster } = this.#etcd
    const [{ header }, { members }] = await Promise.all([maintenance.status(), cluster.memberList({})])
    return members.find(({ ID }) => ID === header.member_id)?.name ?? ''
  }

  close(): void {
    this.channel.destroy()
    this.#etcd.close()
  }
}

/** Asks for the changes under `prefix` from the revision `from` on. */
export function watchRequest(prefix: string, from: bigint): IWatchRequest {
  const { start, end } = Range.prefix(prefix)
  return { create_request: { key: start, range_end: end, start_revision: String(from) } }
}

/** Both calls, in this order: etcd3 takes the cancellation of a stream that is still writable for a failure of the host. */
export function endStream(stream: Pick<IRequestStream<unknown>, 'end' | 'cancel'>): void {
  stream.end()
  stream.cancel()
}

export function changeOf({ type, kv }: IEvent): Change {
  if (type === 'Put') return { type: 'put', entry: entryOf(kv) }
  return { type: 'delete', key: kv.key.toString(), modified: BigInt(kv.mod_revision) }
}

/** Asking again gives the same answer: permission, size, quota. */
const refusals = [
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdPermissionDeniedError,
  GRPCDataLossError,
  GRPCFailedPreconditionError,
  GRPCInvalidArgumentError,
  GRPCNotImplementedError,
  GRPCResourceExhastedError,
  GRPCUnauthenticatedError,
]

/**
 * What failed, by the class of an error of the package. An error of unknown class counts as passing: the package has many
 * classes for "no connection" (docs/etcd.md#errors).
 */
export function faultOf(error: unknown): StoreFault {
  if (error instanceof EtcdLeaseInvalidError) return 'no-lease'
  return refusals.some((refusal) => error instanceof refusal) ? 'denied' : 'unavailable'
}

/** etcd's numbers are decimal strings of 64 bits; lease 0 is none. */
function entryOf(kv: IKeyValue): Entry {
  return {
    key: kv.key.toString(),
    value: kv.value.toString(),
    created: BigInt(kv.create_revision),
    modified: BigInt(kv.mod_revision),
    lease: kv.lease === '0' ? null : kv.lease,
  }
}

function rangeOf(prefix: string): IRangeRequest {
  const { start, end } = Range.prefix(prefix)
  return { key: start, range_end: end }
}

function comparison(compare: Compare): ICompare {
  const key = Buffer.from(compare.key)
  if ('created' in compare)
    return { key, target: CompareTarget.Create, create_revision: String(compare.created) }
  if ('modified' in compare) return { key, target: CompareTarget.Mod, mod_revision: String(compare.modified) }
  if ('value' in compare) return { key, target: CompareTarget.Value, value: Buffer.from(compare.value) }
  return { key, target: CompareTarget.Lease, lease: compare.lease }
}

function request(operation: Operation): IRequestOp {
  const key = Buffer.from(operation.key)
  if (operation.type === 'delete') return { request_delete_range: { key } }
  const { value, lease } = operation
  return { request_put: { key, value: Buffer.from(value), ...(lease !== undefined && { lease }) } }
}

function committedOf({ succeeded, header, responses }: ITxnResponse): Committed {
  const found = succeeded ? [] : responses.map(({ response_range }) => response_range.kvs[0])
  return {
    succeeded,
    revision: BigInt(header.revision),
    found: found.map((kv) => (kv ? entryOf(kv) : null)),
  }
}
