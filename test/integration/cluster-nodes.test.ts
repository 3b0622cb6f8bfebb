import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster } from '../../lib/cluster/cluster.ts'
import type { NodeStatus } from '../../lib/fleet/node.ts'
import { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { SimulatedNode } from '../../lib/simulator/node.ts'
import { EmbeddedStore } from '../../lib/store/embedded.ts'
import { Keys } from '../../lib/store/keys.ts'

const keys = new Keys('test')
const clock = new RealClock()
const model = { name: 'tiny:1b' }

/** What one test made, in the order of making. */
let cleanups: (() => Promise<unknown>)[]
let store: EmbeddedStore
let snapshot: CurrentSnapshot
let cluster: Cluster

beforeEach(async () => {
  cleanups = []
  const dir = await mkdtemp(join(tmpdir(), 'llamero-cluster-'))
  cleanups.push(() => rm(dir, { recursive: true }))
  store = await EmbeddedStore.open(join(dir, 'store'), { clock, log: silentLog })
  cleanups.push(() => store.close())
  snapshot = new CurrentSnapshot()
  cluster = new Cluster({
    store,
    keys,
    snapshot,
    clock,
    dice: () => 0.5,
    log: silentLog,
    metrics: new Metrics(),
    instance: { name: 'a', boot: 'b', version: '0', data: '', admin: '', started: new Date() },
    load: () => ({ running: {}, queued: 0 }),
  })
  cluster.start()
  cleanups.push(() => cluster.stop())
})

afterEach(async () => {
  for (const clean of cleanups.reverse()) await clean()
})
