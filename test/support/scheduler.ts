import type { Elsewhere } from '../../lib/fleet/instance.ts'
import { CurrentSnapshot, type Snapshot } from '../../lib/fleet/snapshot.ts'
import { alwaysAvailable, type FleetAvailability } from '../../lib/scheduler/fleet/availability.ts'
import type { Loader } from '../../lib/scheduler/fleet/loader.ts'
import { Scheduler } from '../../lib/scheduler/scheduler.ts'
import { type Clock, RealClock } from '../../lib/shared/clock.ts'
import { type Log, silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'

interface SchedulerSketch {
  readonly current?: CurrentSnapshot
  readonly upstreams?: FleetAvailability
  readonly loader?: Pick<Loader, 'swap'> & Partial<Loader>
  readonly clock?: Clock
  readonly log?: Pick<Log, 'warn'>
  readonly usedElsewhere?: () => Elsewhere
  readonly leads?: () => boolean
  readonly metrics?: Metrics
}

/** Other instances do nothing. */
export const usedNowhere: Elsewhere = { uses: new Map(), holds: new Map() }

/** Every node loads every model at once. */
export const quickLoader: Loader = { swap: async () => ({ loadS: 0 }), unload: async () => {} }

/** The scheduler alone, over a snapshot made by hand. */
export function aScheduler(
  snapshot: Snapshot,
  {
    current = new CurrentSnapshot(),
    upstreams = { availabilityOf: () => alwaysAvailable },
    loader = quickLoader,
    clock = new RealClock(),
    log = silentLog,
    usedElsewhere = () => usedNowhere,
    leads = () => true,
    metrics = new Metrics(),
  }: SchedulerSketch = {},
): Scheduler {
  current.swap(snapshot)
  const around = {
    upstreams,
    loader: { ...quickLoader, ...loader },
    clock,
    log,
    metrics,
    usedElsewhere,
    leads,
  }
  return new Scheduler({ ...around, snapshot: current, random: () => 0.5 })
}
