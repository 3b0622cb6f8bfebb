import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { Election } from '../../lib/cluster/election/election.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import type { Committed, Lease, Transaction } from '../../lib/store/store.ts'
import { type Etcd, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
import { until } from '../support/processes.ts'

const clock = new RealClock()
const key = '/llamero/claims/leader'
const ttlMs = 10_000
/** Milliseconds between two rounds of a healthy election. */
const periodMs = ttlMs / 5

/** Does something after a grant, and loses the answer to the first transaction when told to. */
class TroubledStore extends EtcdStore {
  readonly #proxy: FaultProxy
  afterGrant: (lease: Lease) => Promise<void> = async () => {}
  losesAnswer = false

  constructor(proxy: FaultProxy, endpoint: string) {
    super({ endpoints: [endpoint], clock, log: silentLog })
    this.#proxy = proxy
  }

  override async grant(ttl: number): Promise<Lease> {
    const lease = await super.grant(ttl)
    const trouble = this.afterGrant
    this.afterGrant = async () => {}
    await trouble(lease)
    return lease
  }

  override async commit(transaction: Transaction): Promise<Committed> {
    if (!this.losesAnswer) return super.commit(transaction)
    this.losesAnswer = false
    this.#proxy.set({ mute: 'down' })
    try {
      return await super.commit(transaction)
    } finally {
      this.#proxy.drop()
      this.#proxy.heal()
    }
  }
}

describe('a candidate on etcd', () => {
  let etcd: Etcd
  let operator: EtcdStore
  let proxy: FaultProxy
  let store: TroubledStore
  let election: Election
  /** Its fence whenever it won or lost. */
  const terms: (bigint | null)[] = []

  before(async () => {
    etcd = await startEtcd()
    operator = new EtcdStore({ endpoints: [etcd.endpoint], clock, log: silentLog })
  })
  after(async () => {
    await operator.close()
    await etcd.stop()
  })
  beforeEach(async () => {
    terms.length = 0
    proxy = new FaultProxy(etcd.endpoint)
    store = new TroubledStore(proxy, await proxy.open())
    election = new Election({
      store,
      key,
      id: 'a',
      clock,
      random: Math.random,
      log: silentLog,
      ttlMs,
      mayLead: () => true,
      isRegistered: () => true,
      changed: () => terms.push(election.fence),
    })
  })
  afterEach(async () => {
    await election.stop()
    await store.close()
    await proxy.close()
  })

  /** Its only term is the one that the key tells. */
  const leadsByTheKey = async () => {
    const entry = await operator.get(key)
    assert.equal(entry?.value, 'a')
    assert.deepEqual(terms, [entry.created])
  }

  it('whose winning answer was lost leads within a period of the moment its key stands', async () => {
    store.losesAnswer = true
    election.start()
    await until(async () => (await operator.get(key)) !== null, 'the key stands', 3000)
    assert.equal(election.isLeader(), false)
    await until(() => election.isLeader(), 'it knows that it leads', periodMs)
    await leadsByTheKey()
  })

  it('whose lease is revoked before its claim campaigns again within a second, and leads only with a key', async () => {
    const revoked = Promise.withResolvers<void>()
    store.afterGrant = async ({ id }) => {
      await operator.revoke(id)
      revoked.resolve()
    }
    election.start()
    await revoked.promise
    await until(() => election.isLeader(), 'it leads', 1000)
    await leadsByTheKey()
  })

  it('whose lease is revoked while it does not know that it won never leads by the key that is gone', async () => {
    store.losesAnswer = true
    election.start()
    await until(async () => (await operator.get(key)) !== null, 'the key stands', 3000)
    const entry = await operator.get(key)
    await operator.revoke(entry?.lease ?? '')
    await until(() => election.isLeader(), 'it leads', periodMs)
    await leadsByTheKey()
    assert.ok(entry && terms[0] !== entry.created)
  })
})
