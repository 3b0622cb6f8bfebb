import { Cluster, type ClusterOptions } from '../../lib/cluster/cluster.ts'
import type { Observation } from '../../lib/cluster/probing/stored-status.ts'
import { Contacts } from '../../lib/fleet/contacts.ts'
import { CurrentSnapshot } from '../../lib/fleet/snapshot.ts'
import type { Clock } from '../../lib/shared/clock.ts'
import { type Log, silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { KeyLayout } from '../../lib/store/key-layout.ts'
import { Link, MemoryStore } from './memory-store.ts'

export const keys = new KeyLayout('test')

/** What a `SnapshotBuilder` needs besides the store's content that it is shown. */
export function builderOptions(clock: Clock, snapshot = new CurrentSnapshot()) {
  const store = new Link(new MemoryStore(clock))
  store.kind = 'etcd'
  const own = new Map<string, Observation | null>()
  return {
    store,
    keys,
    snapshot,
    fallback: { observations: () => own, match() {}, confirmedAt: null },
    cache: null,
    contacts: new Contacts(clock),
    clock,
    random: () => 0.5,
    log: silentLog,
    metrics: new Metrics(),
  }
}

/** The control side of an instance on a memory store that is shared, as etcd is. */
export class ClusterInstance {
  readonly link: Link
  readonly cluster: Cluster
  readonly snapshot = new CurrentSnapshot()
  readonly metrics = new Metrics()
  /** Messages logged, by level. */
  readonly logged = { error: [] as string[], warn: [] as string[], info: [] as string[] }

  constructor(store: MemoryStore, name: string, options: Partial<ClusterOptions> = {}) {
    this.link = new Link(store)
    this.link.kind = 'etcd'
    const { logged } = this
    const log: Log = {
      ...silentLog,
      error: (message) => void logged.error.push(message),
      warn: (message) => void logged.warn.push(message),
      info: (message) => void logged.info.push(message),
    }
    this.cluster = new Cluster({
      store: this.link,
      keys,
      snapshot: this.snapshot,
      clock: store.clock,
      random: () => 0.5,
      log,
      metrics: this.metrics,
      instance: { name, boot: `boot-of-${name}`, version: '0', data: '', admin: '', started: new Date(0) },
      load: () => ({ running: {}, queued: 0 }),
      ...options,
    })
  }

  /** Names of the nodes in force. */
  get nodes(): string[] {
    return [...this.snapshot.get().nodes.keys()]
  }

  async gauge(name: string): Promise<number | undefined> {
    return (await this.metrics.registry.getSingleMetric(`llamero_${name}`)?.get())?.values[0]?.value
  }
}
