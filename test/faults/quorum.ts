import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { Election } from '../../lib/cluster/election.ts'
import { Session } from '../../lib/cluster/session.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd.ts'
import { Informer } from '../../lib/store/informer.ts'
import type { Etcd } from '../support/etcd.ts'
import { type EtcdCluster, startEtcdCluster } from '../support/etcd-cluster.ts'
import { until } from '../support/processes.ts'

const clock = new RealClock()
/** Milliseconds between two writes, and the longest time without one that succeeds. */
const pulseMs = 100
const mostMs = 3000
const ttlMs = 10_000

type Role = 'leader' | 'follower'

/** Three members, one of them in trouble, seen by three clients that each began with another member. */
export class Quorum {
  readonly #etcd: EtcdCluster

  private constructor(etcd: EtcdCluster) {
    this.#etcd = etcd
  }

  static async start(): Promise<Quorum> {
    return new Quorum(await startEtcdCluster())
  }

  async stop(): Promise<void> {
    await this.#etcd.stop()
  }

  /** Returns the longest gap of any client, in milliseconds, and fails when it was too long or a lease was lost that etcd could keep. */
  async gapWhileKilled(role: Role): Promise<number> {
    const member = await this.#member(role)
    return this.#longestGap(async () => {
      await member.kill('SIGKILL')
      await sleep(4000)
      await member.restart()
    })
  }

  async gapWhileFrozen(role: Role, ms: number): Promise<number> {
    const member = await this.#member(role)
    const mayLoseLeases = role === 'leader' && ms > ttlMs && (await revokesWhenWoken(member))
    return this.#longestGap(async () => {
      await member.kill('SIGSTOP')
      await sleep(ms)
      await member.kill('SIGCONT')
    }, mayLoseLeases)
  }

  /**
   * Kills two of the three, not the one that is asked first, then brings them back. Returns the milliseconds until the leader of ours stepped down, and until
   * its informer knew that it does not follow.
   */
  async lost(): Promise<{ demotedMs: number; unfollowedMs: number }> {
    const store = new EtcdStore({ endpoints: this.#etcd.endpoints, clock, log: silentLog })
    const shared = { store, clock, dice: Math.random, log: silentLog, changed() {} }
    const election = new Election({
      ...shared,
      key: '/quorum/leader',
      id: 'a',
      ttlMs: 5000,
      mayLead: () => true,
    })
    const informer = new Informer({ ...shared, prefix: '/quorum/' })
    const isWhole = () => election.isLeader() && informer.following
    try {
      election.start()
      informer.start()
      await until(isWhole, 'it leads and follows', 5000)
      const [, two, three] = this.#etcd.members
      await Promise.all([two?.kill('SIGKILL'), three?.kill('SIGKILL')])
      const [demotedMs, unfollowedMs] = await Promise.all([
        until(() => !election.isLeader(), 'it steps down', 10_000),
        until(() => !informer.following, 'it knows that it does not follow', 10_000),
      ])
      await Promise.all([two?.restart(), three?.restart()])
      await until(isWhole, 'it leads and follows again', 10_000)
      return { demotedMs, unfollowedMs }
    } finally {
      await election.stop()
      await informer.stop()
      await store.close()
    }
  }

  async #longestGap(trouble: () => Promise<void>, mayLoseLeases = false): Promise<number> {
    const { endpoints } = this.#etcd
    const clients = endpoints.map(
      (_, first) => new Client([...endpoints.slice(first), ...endpoints.slice(0, first)]),
    )
    try {
      for (const client of clients) client.start()
      await until(() => clients.every(({ lease }) => lease !== null), 'every client has a lease', 10_000)
      const leases = clients.map(({ lease }) => lease)
      for (const client of clients) client.measure()
      await trouble()
      await sleep(2000)
      const gapMs = Math.round(Math.max(...clients.map(({ longestGapMs }) => longestGapMs)))
      assert.ok(gapMs <= mostMs, `${gapMs} ms without a write`)
      const leasesAfter = clients.map(({ lease }) => lease)
      if (mayLoseLeases) await until(() => areKept(clients), 'every client has a lease that etcd knows', 2000)
      else assert.deepEqual(leasesAfter, leases, 'no lease was lost')
      return gapMs
    } finally {
      await Promise.all(clients.map((client) => client.stop()))
    }
  }

  async #member(role: Role): Promise<Etcd> {
    const leader = await this.#etcd.leader()
    const follower = this.#etcd.members.find((member) => member !== leader)
    return role === 'leader' || !follower ? leader : follower
  }
}

async function areKept(clients: readonly Client[]): Promise<boolean> {
  return (await Promise.all(clients.map((client) => client.isKept()))).every(Boolean)
}

/**
 * Whether a raft leader that wakes up after a TTL revokes what has been renewed with the new one: etcd before 3.4.31, sheet
 * etcd.md §6.
 */
async function revokesWhenWoken({ endpoint }: Etcd): Promise<boolean> {
  const { etcdserver } = (await (await fetch(`${endpoint}/version`)).json()) as { etcdserver: string }
  const [major, minor, patch] = etcdserver.split('.').map(Number)
  return major === 3 && minor === 4 && (patch ?? 0) < 31
}

/** Writes all the time and keeps a lease. */
class Client {
  readonly #store: EtcdStore
  readonly #session: Session
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()
  #wroteAt = clock.now()
  #longestGapMs = 0

  constructor(endpoints: readonly string[]) {
    this.#store = new EtcdStore({ endpoints, clock, log: silentLog })
    this.#session = new Session({
      store: this.#store,
      clock,
      dice: Math.random,
      log: silentLog,
      ttlMs,
      granted() {},
    })
  }

  get lease(): string | null {
    return this.#session.lease
  }

  /** Whether etcd knows its lease. */
  isKept(): Promise<boolean> {
    return this.#store.renew(this.lease ?? '0').then(
      () => true,
      () => false,
    )
  }

  /** Milliseconds, since `measure`; one that goes on counts too. */
  get longestGapMs(): number {
    return Math.max(this.#longestGapMs, clock.now() - this.#wroteAt)
  }

  measure(): void {
    this.#longestGapMs = 0
    this.#wroteAt = clock.now()
  }

  start(): void {
    this.#session.start()
    this.#running = this.#write()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
    await this.#session.close()
    await this.#store.close()
  }

  async #write(): Promise<void> {
    const put = { type: 'put', key: '/quorum/pulse', value: '' } as const
    while (!this.#stopping.signal.aborted) {
      const succeeded = await this.#store.commit({ when: [], apply: [put] }).then(
        () => true,
        () => false,
      )
      if (succeeded) {
        this.#longestGapMs = Math.max(this.#longestGapMs, clock.now() - this.#wroteAt)
        this.#wroteAt = clock.now()
      }
      await sleep(pulseMs)
    }
  }
}
