import assert from 'node:assert/strict'
import { after, before, describe, it, test } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { seededRandom } from '../../lib/shared/random.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { Informer } from '../../lib/store/informer.ts'
import { etcdctl, startEtcd } from '../support/etcd.ts'
import { until } from '../support/processes.ts'
import { Campaign } from './campaign.ts'
import { healedMs, randomFault, scenarios } from './scenarios.ts'

const clock = new RealClock()
const seed = 20_261
const faults = 8
const offsets = 20
/** Bytes. */
const stretch = 30

describe('three informers on one etcd have all it has, and nothing else, after it was', () => {
  let campaign: Campaign
  before(async () => {
    campaign = await Campaign.start(seededRandom(seed))
  })
  after(() => campaign.stop())

  for (const { name, run, withinMs } of scenarios) {
    it(name, async (test) => {
      await run(campaign)
      test.diagnostic(`equal after ${Math.round(await campaign.converge(withinMs))} ms`)
    })
  }

  it('compacted every second during changes, and relist once for each break', async () => {
    const before = await campaign.relists()
    const breaks = 2
    for (let second = 0; second < 2 * breaks; second++) {
      await campaign.following()
      if (second % 2 === 1) for (const proxy of campaign.proxies) proxy.drop()
      const endsAt = performance.now() + 1000
      while (performance.now() < endsAt) await campaign.churn(5)
      await campaign.compact()
    }
    await campaign.converge(healedMs)
    const after = await campaign.relists()
    const relists = after.map((count, n) => count - (before[n] ?? 0))
    assert.deepEqual(
      relists,
      relists.map(() => breaks),
    )
  })

  it(`troubled by ${faults} random faults of seed ${seed}`, async (test) => {
    for (let fault = 0; fault < faults; fault++) {
      await randomFault(campaign)
      test.diagnostic(`equal after ${Math.round(await campaign.converge(healedMs))} ms`)
    }
  })
})

test(`${offsets} informers lose nothing when each is cut twice, the second time at another byte after its watch stood`, async () => {
  const random = seededRandom(seed)
  const campaign = await Campaign.start(random, offsets)
  try {
    const { proxies } = campaign
    /** Ends every connection, and changes things until each informer has made that many new ones. */
    const breakAll = async (connections: number) => {
      const due = proxies.map(({ accepted }) => accepted + connections)
      for (const proxy of proxies) proxy.drop()
      while (proxies.some(({ accepted }, n) => accepted < (due[n] ?? 0))) await campaign.churn(1)
    }
    await campaign.churn(40)
    await breakAll(1)
    await campaign.following()
    // What a connection brings until its watch stands, and from then on another stretch for each, within it at random.
    for (const [n, proxy] of proxies.entries())
      proxy.script({ cutAt: proxy.sentDown + stretch * n + campaign.draw(stretch) })
    await breakAll(2)
    await campaign.converge(healedMs)
  } finally {
    await campaign.stop()
  }
})

/** Something may happen between its lists and what follows them. */
class InterruptedStore extends EtcdStore {
  afterList: (() => Promise<void>) | null = null

  override async list(prefix: string) {
    const listed = await super.list(prefix)
    const interrupt = this.afterList
    this.afterList = null
    await interrupt?.()
    return listed
  }
}

// etcd before 3.4.36 and 3.5.18 lets a watch from the very revision of a compaction stand, and swallows a delete of that revision.
test('a delete that is compacted between a list and its watch is not lost', async () => {
  const etcd = await startEtcd()
  const store = new InterruptedStore({ endpoints: [etcd.endpoint], clock, log: silentLog })
  const informer = new Informer({
    store,
    prefix: '/',
    clock,
    random: Math.random,
    log: silentLog,
    changed() {},
  })
  try {
    await store.commit({ when: [], apply: [{ type: 'put', key: '/a', value: '' }] })
    store.afterList = async () => {
      const { revision } = await store.commit({ when: [], apply: [{ type: 'delete', key: '/a' }] })
      await etcdctl(etcd.endpoint, 'compaction', String(revision))
    }
    informer.start()
    await until(() => informer.following && informer.entries.size === 0, 'the copy is right', healedMs)
    assert.equal(store.afterList, null)
  } finally {
    await informer.stop()
    await store.close()
    await etcd.stop()
  }
})
