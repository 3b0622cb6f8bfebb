import { hostname } from 'node:os'
import { AdminServer } from '../admin/server.ts'
import { Cluster } from '../cluster/cluster.ts'
import { SnapshotFile } from '../cluster/config/snapshot-file.ts'
import { succeedPredecessor } from '../cluster/membership/predecessor.ts'
import { type Address, formatAddress } from '../shared/net/address.ts'
import { version } from '../version.ts'
import type { DataPlane } from './data-plane.ts'
import { type Foundation, ownFile } from './open-store.ts'

/** What follows the store, watches the nodes and answers operators. */
export interface ControlPlane {
  readonly cluster: Cluster
  readonly adminServer: AdminServer
  readonly draining: Draining
  /** The addresses of this instance, added once its ports are open. */
  readonly listeners: Address[]
}

export async function controlPlane(foundation: Foundation, data: DataPlane): Promise<ControlPlane> {
  const { settings, boot, store, log, clock } = foundation
  const { contacts, scheduler } = data
  const cluster = new Cluster({
    ...foundation,
    instance: {
      name: settings.name,
      boot,
      version,
      host: hostname(),
      data: formatAddress(settings.listen),
      admin: formatAddress(settings.admin),
      started: clock.date(),
    },
    predecessor: await succeedPredecessor(ownFile(settings, 'boot'), boot, log),
    contacts,
    load: () => scheduler.summary(),
    learned: () => scheduler.learned(),
    ...(store.kind === 'etcd' && { disk: new SnapshotFile(ownFile(settings, 'snapshot', '.json'), log) }),
  })
  const draining = new Draining(cluster)
  const listeners: Address[] = []
  const adminServer = new AdminServer({
    ...foundation,
    ...data,
    cluster,
    jobs: cluster.jobs,
    clusterName: settings.cluster,
    instance: settings.name,
    listen: settings.admin,
    listeners: () => listeners,
    isDraining: () => draining.isOn,
    setDraining: (wanted) => draining.set(wanted),
  })
  return { cluster, adminServer, draining, listeners }
}

/** Whether this instance is out of service for load balancers. */
export class Draining {
  readonly #cluster: Cluster
  #isOn = false
  #isFinal = false

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  get isOn(): boolean {
    return this.#isOn
  }

  set(wanted: boolean): void {
    this.#isOn = wanted || this.#isFinal
    this.#cluster.setDraining(this.#isOn)
  }

  /** A stop has begun: from now on nothing puts this instance back into service. */
  begin(): void {
    this.#isFinal = true
    this.set(true)
  }
}
