import type { Cluster } from '../cluster/cluster.ts'
import type { Jobs } from '../fleet/job.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import type { UpstreamPool } from '../gateway/availability/upstream-pool.ts'
import type { JobEndpoint } from '../gateway/jobs/job-endpoint.ts'
import type { Pipeline } from '../gateway/pipeline.ts'
import type { Scheduler } from '../scheduler/scheduler.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import type { Metrics } from '../shared/metrics.ts'
import type { Address } from '../shared/net/address.ts'
import type { OwnFaults } from '../shared/process/own-faults.ts'
import type { KeyLayout } from '../store/key-layout.ts'
import type { Store } from '../store/store.ts'

/** What the admin listener shows and changes. */
export interface AdminContext {
  readonly clusterName: string
  /** Name of this instance. */
  readonly instance: string
  readonly listen: Address
  /** The addresses on which this instance listens, once it does. */
  readonly listeners: () => readonly Address[]
  /** The data listener is bound to loopback. */
  readonly loopback: boolean
  /** Bearer token with every permission. */
  readonly token: string
  readonly store: Store
  readonly keys: KeyLayout
  readonly cluster: Cluster
  readonly snapshot: CurrentSnapshot
  readonly scheduler: Scheduler
  readonly upstreams: UpstreamPool
  readonly pipeline: Pipeline
  readonly ownFaults: OwnFaults
  readonly jobs: Jobs
  readonly management: JobEndpoint
  readonly metrics: Metrics
  readonly clock: Clock
  readonly log: Log
  readonly isDraining: () => boolean
  /** Takes this instance out of service for load balancers, or puts it back; a shutdown that has begun cannot be undone. */
  readonly setDraining: (draining: boolean) => void
}
