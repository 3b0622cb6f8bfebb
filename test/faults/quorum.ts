import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { Session } from '../../lib/cluster/session.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd.ts'
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

  /** Returns the longest gap of any client, in milliseconds, and fails when it was too long or a lease was lost. */
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
    return this.#longestGap(async () => {
      await member.kill('SIGSTOP')
      await sleep(ms)
      await member.kill('SIGCONT')
    })
  }

  async #longestGap(trouble: () => Promise<void>): Promise<number> {
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
      assert.deepEqual(leasesAfter, leases, 'no lease was lost')
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
