import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { Election } from '../../lib/cluster/election/election.ts'
import { Session } from '../../lib/cluster/membership/session.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { Informer } from '../../lib/store/informer.ts'
import type { Etcd } from '../support/etcd.ts'
import { type EtcdCluster, startEtcdCluster } from '../support/etcd-cluster.ts'
import { until } from '../support/processes.ts'

const clock = new RealClock()
/** Milliseconds between two writes, and the longest time without one that succeeds. */
const pulseMs = 100
const mostMs = 3000
/**
 * The same after etcd itself takes writes again, which may take it four seconds: members that stand for election in the same
 * moment try anew. A write that etcd has forgotten is given up after 750 ms, and by chance so is the next.
 */
const mostAfterEtcdMs = 1500
const ttlMs = 10_000

type Role = 'leader' | 'follower'

/** What happens to a member, and for how many milliseconds. */
interface Trouble {
  readonly begin: () => Promise<void>
  readonly ms: number
  readonly end: () => Promise<void>
  /** Whether etcd, at the end of it, revokes leases that were renewed. */
  readonly revokes?: boolean
}

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

  /** Returns the longest gap of any client, in milliseconds; fails when it was too long, or a lease was lost, or another client came to lead. */
  async gapWhileKilled(role: Role): Promise<number> {
    const member = await this.#member(role)
    return this.#longestGap({
      begin: () => member.kill('SIGKILL'),
      ms: 4000,
      end: () => member.restart(),
    })
  }

  /** As `gapWhileKilled`; what the bug of etcd told at `revokesWhenWoken` takes away has to be back within seconds. */
  async gapWhileFrozen(role: Role, ms: number): Promise<number> {
    const member = await this.#member(role)
    return this.#longestGap({
      begin: () => member.kill('SIGSTOP'),
      ms,
      end: () => member.kill('SIGCONT'),
      revokes: role === 'leader' && ms > ttlMs && (await revokesWhenWoken(member)),
    })
  }

  /**
   * Kills two of the three, not the one that is asked first, then brings them back. Returns the milliseconds until the leader of ours stepped down, and until
   * its informer knew that it does not follow.
   */
  async lost(): Promise<{ demotedMs: number; unfollowedMs: number }> {
    const store = new EtcdStore({ endpoints: this.#etcd.endpoints, clock, log: silentLog })
    const shared = { store, clock, random: Math.random, log: silentLog, changed() {} }
    const election = new Election({
      ...shared,
      key: '/quorum/leader',
      id: 'a',
      ttlMs: 5000,
      mayLead: () => true,
      isRegistered: () => true,
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

  async #longestGap({ begin, ms, end, revokes = false }: Trouble): Promise<number> {
    const { endpoints } = this.#etcd
    const clients = endpoints.map(
      (_, first) => new Client([...endpoints.slice(first), ...endpoints.slice(0, first)]),
    )
    const etcd = new EtcdItself(endpoints)
    try {
      etcd.start()
      for (const client of clients) client.start()
      await until(() => clients.every(({ lease }) => lease !== null), 'every client has a lease', 10_000)
      await until(() => clients.some(isLeading), 'one of them leads', 10_000)
      const before = clients.map(holdings)
      const assertKept = (when: string) =>
        assert.deepEqual(clients.map(holdings), before, `leases and leader ${when}`)
      for (const { gap } of [etcd, ...clients]) gap.measure()
      await begin()
      await sleep(ms)
      assertKept('before the member is back')
      await end()
      await sleep(2000)
      const gapMs = Math.round(Math.max(...clients.map(({ gap }) => gap.longestMs)))
      const etcdMs = Math.round(etcd.gap.longestMs)
      assert.ok(
        gapMs <= Math.max(mostMs, etcdMs + mostAfterEtcdMs),
        `${gapMs} ms without a write, etcd itself ${etcdMs} ms`,
      )
      if (!revokes) assertKept('when it is back')
      else {
        await until(() => areKept(clients), 'every client has a lease that etcd knows', 2000)
        // Told by no watch here, a leader sees the loss with its next renewal, another the vacancy with its next look.
        await until(() => clients.some(isLeading), 'one of them leads again', ttlMs / 2)
      }
      return gapMs
    } finally {
      await Promise.all([etcd, ...clients].map((writer) => writer.stop()))
    }
  }

  async #member(role: Role): Promise<Etcd> {
    const leader = await this.#etcd.leader()
    const follower = this.#etcd.members.find((member) => member !== leader)
    return role === 'leader' || !follower ? leader : follower
  }
}

function isLeading({ fence }: Client): boolean {
  return fence !== null
}

function holdings({ lease, fence }: Client): { lease: string | null; fence: bigint | null } {
  return { lease, fence }
}

async function areKept(clients: readonly Client[]): Promise<boolean> {
  return (await Promise.all(clients.map((client) => client.isKept()))).every(Boolean)
}

/**
 * A raft leader that was frozen for longer than a TTL knows of no renewal that its successor took meanwhile: when it wakes
 * up, it asks to revoke all those leases before it learns that it leads no more, and its successor obeys. etcd ignores
 * such requests since 3.4.31 and 3.5.13 (etcd #15247). Nobody outside etcd can prevent it, and until
 * the member wakes up nothing is lost.
 */
async function revokesWhenWoken({ endpoint }: Etcd): Promise<boolean> {
  const { etcdserver } = (await (await fetch(`${endpoint}/version`)).json()) as { etcdserver: string }
  const [major, minor, patch = 0] = etcdserver.split('.').map(Number)
  return major === 3 && ((minor === 4 && patch < 31) || (minor === 5 && patch < 13))
}

/** The longest time without a success, in milliseconds. */
class Gap {
  #endedAt = clock.now()
  #longestMs = 0

  /** Since `measure`; one that goes on counts too. */
  get longestMs(): number {
    return Math.max(this.#longestMs, clock.now() - this.#endedAt)
  }

  measure(): void {
    this.#longestMs = 0
    this.#endedAt = clock.now()
  }

  /** Something succeeded. */
  end(): void {
    this.#longestMs = this.longestMs
    this.#endedAt = clock.now()
  }
}

/** Writes to each member all the time by etcd's own gateway, and waits for no answer: whatever is taken, is taken at once. */
class EtcdItself {
  readonly gap = new Gap()
  readonly #endpoints: readonly string[]
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()

  constructor(endpoints: readonly string[]) {
    this.#endpoints = endpoints
  }

  start(): void {
    this.#running = this.#write()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #write(): Promise<void> {
    const body = JSON.stringify({ key: Buffer.from('/quorum/itself').toString('base64') })
    const { signal } = this.#stopping
    while (!signal.aborted) {
      for (const endpoint of this.#endpoints)
        void fetch(`${endpoint}/v3/kv/put`, { method: 'POST', body, signal }).then(
          ({ ok }) => ok && this.gap.end(),
          () => {},
        )
      await sleep(pulseMs)
    }
  }
}

/** Writes all the time, keeps a lease, and leads the other clients or stands by. */
class Client {
  readonly gap = new Gap()
  readonly #store: EtcdStore
  readonly #session: Session
  readonly #election: Election
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()

  constructor(endpoints: readonly string[]) {
    this.#store = new EtcdStore({ endpoints, clock, log: silentLog })
    const shared = { store: this.#store, clock, random: Math.random, log: silentLog, ttlMs }
    this.#session = new Session({ ...shared, granted() {} })
    this.#election = new Election({
      ...shared,
      key: '/quorum/leader',
      id: endpoints[0] ?? '',
      mayLead: () => true,
      isRegistered: () => true,
      changed() {},
    })
  }

  get lease(): string | null {
    return this.#session.lease
  }

  /** Of its term, null while it does not lead. */
  get fence(): bigint | null {
    return this.#election.fence
  }

  /** Whether etcd knows its lease. */
  isKept(): Promise<boolean> {
    return this.#store.renew(this.lease ?? '0').then(
      () => true,
      () => false,
    )
  }

  start(): void {
    this.#session.start()
    this.#election.start()
    this.#running = this.#write()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
    await this.#election.stop()
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
      if (succeeded) this.gap.end()
      await sleep(pulseMs)
    }
  }
}
