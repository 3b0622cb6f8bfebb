import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { silentLog } from '../../../lib/shared/log.ts'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { Informer } from '../../../lib/store/informer.ts'
import {
  type Change,
  type Entry,
  newestOf,
  type Store,
  StoreError,
  type WatchHandler,
} from '../../../lib/store/store.ts'

/** As much of a store as an informer sees, with every fault at hand. */
class FaultyStore implements Pick<Store, 'list' | 'newest' | 'watch'> {
  readonly entries = new Map<string, Entry>()
  revision = 0n
  lists = 0
  isDown = false
  /** Changes do not reach the watch. */
  isMute = false
  handler: WatchHandler | null = null

  put(key: string, value = ''): Entry {
    this.revision += 1n
    const created = this.entries.get(key)?.created ?? this.revision
    const entry = { key, value, created, modified: this.revision, lease: null }
    this.entries.set(key, entry)
    this.tell({ type: 'put', entry })
    return entry
  }

  delete(key: string): void {
    this.revision += 1n
    this.entries.delete(key)
    this.tell({ type: 'delete', key, modified: this.revision })
  }

  tell(...changes: Change[]): void {
    if (!this.isMute) this.handler?.changed(changes, this.revision)
  }

  break(reason: 'compacted' | 'lost'): void {
    const handler = this.handler
    this.handler = null
    handler?.broken(reason)
  }

  async list() {
    this.lists += 1
    this.#refuseDown()
    return { entries: [...this.entries.values()], revision: this.revision }
  }

  async newest() {
    this.#refuseDown()
    return { count: this.entries.size, modified: newestOf(this.entries.values()) }
  }

  async watch(_prefix: string, from: bigint, handler: WatchHandler) {
    this.#refuseDown()
    assert.equal(from, this.revision + 1n)
    this.handler = handler
    return {
      close: () => {
        if (this.handler === handler) this.handler = null
      },
    }
  }

  #refuseDown(): void {
    if (this.isDown) throw new StoreError('unavailable', 'down')
  }
}

describe('the informer', () => {
  let clock: VirtualClock
  let store: FaultyStore
  let metrics: Metrics
  let informer: Informer
  let reports: string[][]
  let failing: boolean

  beforeEach(() => {
    clock = new VirtualClock()
    store = new FaultyStore()
    metrics = new Metrics()
    reports = []
    failing = false
    informer = new Informer({
      // The informer calls nothing else of a store.
      store: store as unknown as Store,
      prefix: '/',
      clock,
      random: () => 0.5,
      log: silentLog,
      metrics,
      changed(keys) {
        reports.push([...keys].sort())
        if (failing) throw new Error('a consumer fails')
      },
    })
  })
  afterEach(() => informer.stop())

  const started = async () => {
    informer.start()
    await clock.advance(1)
    reports.length = 0
    store.lists = 0
  }
  const relists = async () =>
    Object.fromEntries(
      (await metrics.relists.get()).values.map(({ labels, value }) => [labels.reason, value]),
    )

  it('knows when its copy was complete: by a list, a change or a probe, not by a mere answer', async () => {
    const age = () => clock.now() - (informer.inStepMs ?? Number.NEGATIVE_INFINITY)
    assert.equal(informer.inStepMs, null)
    await started()
    assert.ok(age() <= 1)
    await clock.advance(9000)
    assert.ok(age() >= 8999, 'nothing happened')
    await clock.advance(3000)
    assert.ok(age() < 3000, 'a probe found nothing missing')
    store.put('/a')
    assert.equal(age(), 0, 'a change')
    store.isMute = true
    store.put('/b')
    const lists = store.lists
    let oldest = 0
    while (store.lists === lists && oldest < 20_000) {
      oldest = age()
      await clock.advance(10)
    }
    assert.equal(store.lists, lists + 1, 'the silent watch was found out')
    assert.ok(oldest > 8100, `${oldest} ms: the probe that found it out proves the contrary`)
    store.isDown = true
    store.break('lost')
    await clock.advance(30_000)
    assert.ok(age() >= 30_000, 'the store is away')
  })

  it('relists at once when the change after its list was lost before its watch stood', async () => {
    store.put('/a')
    const watch = store.watch.bind(store)
    store.watch = async (...request) => {
      store.watch = watch
      const opened = await watch(...request)
      store.isMute = true
      store.delete('/a')
      store.isMute = false
      return opened
    }
    informer.start()
    await clock.advance(500)
    assert.equal(informer.entries.size, 0)
    assert.deepEqual(await relists(), { silent: 1 })
  })

  it('reports every key after the first list', async () => {
    store.put('/a')
    store.put('/b')
    assert.equal(informer.synced, false)
    assert.equal(informer.lastContactMs, null)
    informer.start()
    await clock.advance(1)
    assert.equal(informer.synced, true)
    assert.equal(informer.revision, 2n)
    assert.equal(informer.lastContactMs, 0)
    assert.deepEqual(reports, [['/a', '/b']])
  })

  it('reports an empty first list too, once', async () => {
    informer.start()
    await clock.advance(1)
    assert.deepEqual(reports, [[]])
    store.break('lost')
    await clock.advance(1000)
    assert.equal(store.lists, 2)
    assert.deepEqual(reports, [[]])
  })

  it('follows puts and deletes, and reports what changed at the same time in one call, outside of the watch', async () => {
    store.put('/gone')
    await started()
    store.put('/a', '1')
    store.put('/a', '2')
    store.delete('/gone')
    assert.deepEqual(reports, [])
    await clock.advance(1)
    assert.deepEqual(reports, [['/a', '/gone']])
    assert.deepEqual([...informer.entries.values()], [...store.entries.values()])
    assert.equal(informer.revision, store.revision)
  })

  it('goes on when its consumer fails', async () => {
    await started()
    failing = true
    store.put('/a')
    await clock.advance(1)
    store.put('/b')
    await clock.advance(1)
    assert.deepEqual(reports, [['/a'], ['/b']])
  })

  it('takes no change that is older than what it knows', async () => {
    const old = store.put('/a', 'old')
    store.put('/gone')
    const before = store.entries.get('/gone')
    store.delete('/gone')
    const current = store.put('/a', 'new')
    await started()
    assert.ok(before)
    store.tell({ type: 'put', entry: old }, { type: 'put', entry: before })
    store.tell({ type: 'put', entry: current }, { type: 'delete', key: '/a', modified: old.modified })
    store.tell({ type: 'delete', key: '/never', modified: 100n })
    await clock.advance(1)
    assert.deepEqual([...informer.entries.values()], [current])
    assert.deepEqual(reports, [])
  })

  it('brings no deleted key back when its put arrives again, in the same message or in a later one', async () => {
    await started()
    const put = store.put('/a')
    store.delete('/a')
    store.tell({ type: 'put', entry: put })
    const both = { ...put, key: '/b', created: 10n, modified: 10n }
    store.tell(
      { type: 'put', entry: both },
      { type: 'delete', key: '/b', modified: 11n },
      { type: 'put', entry: both },
    )
    await clock.advance(1)
    assert.deepEqual([...informer.entries], [])
    assert.equal(informer.revision, 11n)
  })

  it('takes in every change of one transaction', async () => {
    store.put('/gone')
    await started()
    const entry = { key: '/a', value: '', created: 2n, modified: 2n, lease: null }
    store.tell(
      { type: 'delete', key: '/gone', modified: 2n },
      { type: 'put', entry },
      { type: 'put', entry: { ...entry, key: '/b' } },
    )
    await clock.advance(1)
    assert.deepEqual([...informer.entries.keys()], ['/a', '/b'])
  })

  for (const reason of ['compacted', 'lost'] as const) {
    it(`relists after ${reason}, and reports the differences only`, async () => {
      for (const key of ['/changed', '/gone', '/same']) store.put(key)
      await started()
      store.break(reason)
      store.put('/changed')
      store.delete('/gone')
      store.put('/new')
      await clock.advance(1000)
      assert.deepEqual(reports, [['/changed', '/gone', '/new']])
      assert.deepEqual(await relists(), { [reason]: 1 })
      store.put('/after')
      await clock.advance(1)
      assert.deepEqual(reports.at(-1), ['/after'])
    })
  }

  it('sees that a wiped store counts its revisions from the beginning', async () => {
    store.put('/a', 'before')
    store.put('/b')
    await started()
    store.break('lost')
    store.entries.clear()
    store.revision = 0n
    store.put('/a', 'after')
    await clock.advance(1000)
    assert.deepEqual(reports, [['/a', '/b']])
    assert.equal(informer.entries.get('/a')?.value, 'after')
    assert.equal(informer.revision, 1n)
  })

  it('keeps its copy while the store is unreachable, and retries with growing pauses of at most a second', async () => {
    store.put('/a')
    await started()
    await clock.advance(5000)
    store.isDown = true
    store.break('lost')
    const asked: number[] = []
    for (let ms = 0; ms < 6000; ms += 10) {
      const { lists } = store
      await clock.advance(10)
      if (store.lists > lists) asked.push(ms)
    }
    const pauses = asked.slice(1).map((at, index) => at - (asked[index] ?? 0))
    assert.deepEqual(pauses.slice(0, 4), [100, 200, 400, 800])
    assert.ok(pauses.every((pause) => pause <= 1000))
    assert.ok(pauses.length >= 8)
    assert.equal(informer.entries.size, 1)
    assert.ok((informer.lastContactMs ?? 0) <= 5001)

    store.isDown = false
    store.put('/b')
    await clock.advance(1000)
    assert.deepEqual(reports, [['/b']])
    assert.deepEqual(await relists(), { lost: 1 })
  })

  it('finds a watch that died in silence within its probe and grace', async () => {
    store.put('/a')
    await started()
    store.isMute = true
    store.put('/missed')
    await clock.advance(10_000)
    assert.deepEqual(reports, [])
    store.isMute = false
    await clock.advance(300)
    assert.deepEqual(reports, [['/missed']])
    assert.deepEqual(await relists(), { silent: 1 })
  })

  it('does not relist while the watch is up to date', async () => {
    store.put('/a')
    await started()
    for (let second = 0; second < 60; second++) {
      store.put('/a', String(second))
      await clock.advance(1000)
    }
    assert.equal(store.lists, 0)
    assert.ok(clock.now() - (informer.lastContactMs ?? 0) <= 1000)
  })

  it('keeps a quiet watch while the probe is not answered', async () => {
    store.put('/a')
    await started()
    store.isDown = true
    await clock.advance(60_000)
    assert.equal(store.lists, 0)
    store.put('/b')
    await clock.advance(1)
    assert.deepEqual(reports, [['/b']])
  })

  it('reports nothing after it was stopped, and ends its watch', async () => {
    await started()
    store.put('/a')
    await Promise.all([informer.stop(), informer.stop()])
    assert.equal(store.handler, null)
    await clock.advance(60_000)
    assert.deepEqual(reports, [])
    assert.equal(store.lists, 0)
    assert.equal(clock.nextTimerAt(), null)
  })
})
