import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { ChangeBatcher } from '../../lib/cluster/config/change-batcher.ts'
import { SnapshotBuilder } from '../../lib/cluster/config/snapshot-builder.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import type { Entry } from '../../lib/store/store.ts'
import { builderOptions, keys } from '../support/cluster.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { Connection } from './connection.ts'
import { percentile } from './statistics.ts'

const nodes = 1000
const modelsPerNode = 50
/** Of all names: each model is on a quarter of the nodes. */
const names = 200
const singleChanges = 40
/** Changes before the first that counts: an instance that runs has seen some. */
const warmUps = 10
/** Longer than statuses are ever held back, so that each change comes alone. */
const apartMs = 60
const burstMs = 1000
const tagsRequest = Buffer.from('GET /api/tags HTTP/1.1\r\nhost: localhost\r\n\r\n')

/** What `largeFleet` finds, in milliseconds. */
interface Findings {
  /** From one node's status to the snapshot that has it, at p99. */
  readonly rebuildMs: number
  /** The longest that anything else had to wait for the event loop while the whole list came in, as after a start. */
  readonly listBlockedMs: number
  /** The same while single nodes changed. */
  readonly blockedMs: number
  /** `/api/tags` meanwhile, at p99. */
  readonly tagsMs: number
  /** The longest wait while every node changed within a second. */
  readonly burstBlockedMs: number
}

/**
 * What it costs an instance to follow a fleet of 1,000 nodes with 50 models each: the whole of it at once, then single
 * changes by a pull, while a caller polls the listing; then a load on every node within a second.
 */
export async function largeFleet(): Promise<Findings> {
  await using gateway = await startGateway(aSnapshot())
  const { entries, batcher, put } = follower(gateway.current)
  const caller = await Connection.open(gateway.port)
  const changed = Array.from({ length: nodes }, (_, node) =>
    node < warmUps + singleChanges
      ? statusOf(node, 'pulled:latest', [])
      : statusOf(node, 'first:latest', ['first:latest']),
  )
  const delay = monitorEventLoopDelay({ resolution: 1 })
  for (let node = 0; node < nodes; node++) {
    put(`nodes/node-${node}`, `{url: "http://10.0.0.1:${node + 1}"}`)
    put(`state/nodes/node-${node}`, statusOf(node, 'first:latest', []))
  }
  delay.enable()
  batcher.add(new Set([...entries.keys()].sort()))
  while (gateway.current.get().nodes.size < nodes) await sleep(apartMs)
  const listBlockedMs = delay.max / 1e6
  delay.reset()

  const polling = new AbortController()
  const polled = poll(caller, polling.signal)
  const rebuilds: number[] = []
  for (let nth = 0; nth < warmUps + singleChanges; nth++) {
    await sleep(apartMs)
    if (nth === warmUps) delay.reset()
    const since = performance.now()
    batcher.add(new Set([put(`state/nodes/node-${nth}`, changed[nth] ?? '')]))
    if (nth >= warmUps) rebuilds.push(performance.now() - since)
  }
  const blockedMs = delay.max / 1e6
  polling.abort()
  const tagsMs = percentile(await polled, 0.99)
  caller.close()
  delay.reset()

  for (let nth = warmUps + singleChanges; nth < nodes; nth++) {
    batcher.add(new Set([put(`state/nodes/node-${nth}`, changed[nth] ?? '')]))
    if (nth % 10 === 0) await sleep(burstMs / (nodes / 10))
  }
  await sleep(apartMs)
  delay.disable()
  batcher.stop()
  const rebuildMs = percentile(rebuilds, 0.99)
  return { rebuildMs, listBlockedMs, blockedMs, tagsMs, burstBlockedMs: delay.max / 1e6 }
}

/** The control side as far as it follows the store, without a store. */
function follower(snapshot: ConstructorParameters<typeof SnapshotBuilder>[0]['snapshot']) {
  const shared = builderOptions(new RealClock(), snapshot)
  const entries = new Map<string, Entry>()
  let revision = 0n
  const batcher = new ChangeBatcher({
    ...shared,
    informer: {
      entries,
      get revision() {
        return revision
      },
    },
    builder: new SnapshotBuilder(shared),
    followed: () => {},
  })
  /** Returns the key. */
  const put = (path: string, value: string) => {
    const key = keys.root + path
    const created = entries.get(key)?.created ?? ++revision
    entries.set(key, { key, value, created, modified: ++revision, lease: null })
    return key
  }
  return { entries, batcher, put }
}

async function poll(caller: Connection, signal: AbortSignal): Promise<number[]> {
  const times: number[] = []
  while (!signal.aborted) {
    times.push((await caller.send(tagsRequest)).firstByteMs)
    await sleep(5)
  }
  return times
}

function statusOf(node: number, extra: string, loaded: readonly string[]): string {
  const model = (name: string) => ({
    name,
    digest: `${name} `.repeat(5).padEnd(64, '0'),
    size: 4_000_000_000,
    // Each node pulled it at a time of its own.
    modified_at: `2026-01-01T00:00:00.${node}Z`,
    details: { format: 'gguf', family: 'llama', families: ['llama'], parameter_size: '8B' },
    capabilities: ['completion', 'tools'],
  })
  const own = Array.from(
    { length: modelsPerNode - 1 },
    (_, nth) => `model-${(node * 7 + nth) % names}:latest`,
  )
  return JSON.stringify({
    fence: '1',
    health: 'up',
    reason: '',
    since: '2026-01-01T00:00:00Z',
    version: '0.32.15',
    weight: 1,
    models: [...own, extra].map(model),
    loaded: loaded.map((name) => ({
      ...model(name),
      size_vram: 4_000_000_000,
      context_length: 4096,
      expires_at: '2026-01-01T00:05:00Z',
    })),
  })
}
