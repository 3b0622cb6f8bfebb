import { type ControlPlane, controlPlane } from './app/control-plane.ts'
import { dataPlane } from './app/data-plane.ts'
import { type Foundation, openStore } from './app/open-store.ts'
import { Shutdown, type StopLimits } from './app/shutdown.ts'
import type { Cluster } from './cluster/cluster.ts'
import type { CurrentSnapshot } from './fleet/snapshot.ts'
import type { Listener } from './gateway/listener.ts'
import { isJournal } from './settings/environment.ts'
import type { Settings } from './settings/settings.ts'
import { RealClock } from './shared/clock.ts'
import type { ProcessLog } from './shared/log.ts'
import { Metrics } from './shared/metrics.ts'
import { type Address, formatAddress } from './shared/net/address.ts'
import { checkSomaxconn } from './shared/net/somaxconn.ts'
import { createLog } from './shared/winston.ts'
import { listenError, sayLogLoss } from './start-error.ts'
import type { KeyLayout } from './store/key-layout.ts'
import type { Store } from './store/store.ts'
import { version } from './version.ts'

/** A running instance. */
export interface App {
  readonly data: Address
  readonly admin: Address
  readonly log: ProcessLog
  /** The limits that the settings give to a stop. */
  readonly patience: StopLimits
  /** For what is built on top of an instance (quickstart). */
  readonly store: Store
  readonly keys: KeyLayout
  readonly snapshot: CurrentSnapshot
  /**
   * Drains and stops: `/readyz` says 503 at once, no new connections after `graceMs`, running requests get until
   * `drainMs`, then an error in their dialect and a cut. A second call stops at once.
   */
  stop(limits?: StopLimits): Promise<void>
}

/** What `prepare` may use. */
export type Parts = Pick<App, 'store' | 'keys' | 'snapshot'>

/**
 * Starts an instance: the store, then the data plane, then the control plane, then the ports. Rejects when a port cannot be
 * bound.
 *
 * @param prepare awaited while the instance follows its store and no port is open: the first caller finds its result.
 */
export async function startApp(settings: Settings, prepare?: (parts: Parts) => Promise<void>): Promise<App> {
  const { logLevel: level, logFormat: format } = settings
  const log = createLog({ level, format, journal: isJournal(1), lost: sayLogLoss })
  const metrics = new Metrics()
  metrics.buildInfo.set({ version, node_version: process.version }, 1)

  const foundation = await openStore(settings, { clock: new RealClock(), random: Math.random, log, metrics })
  // The only binding to what is made later. Requests and changes of the store, which use it, come after both are made.
  const data = dataPlane(foundation, (): Cluster => control.cluster)
  const control = await controlPlane(foundation, data)
  const shutdown = new Shutdown(foundation, data, control)

  await checkSomaxconn(log)
  // Nothing is awaited from here to the handlers of signals: one that came in between would end a process that has callers.
  const bound = await openPorts(foundation, data.listener, control, prepare)
  data.ownFaults.start()
  log.info('serving', {
    version,
    data: formatAddress(bound.data),
    admin: formatAddress(bound.admin),
    store: foundation.store.kind,
    instance: settings.name,
  })
  const { store, keys, snapshot } = foundation
  return {
    ...bound,
    log,
    patience: settings.patience,
    store,
    keys,
    snapshot,
    stop: (limits = { graceMs: 0, drainMs: 0 }) => shutdown.stop(limits),
  }
}

interface Ports {
  readonly data: Address
  readonly admin: Address
}

/** Opens both ports. The cluster starts when they are open, so that no other process has them, or earlier for `prepare`. */
async function openPorts(
  foundation: Foundation,
  listener: Listener,
  { cluster, adminServer, listeners }: ControlPlane,
  prepare?: (parts: Parts) => Promise<void>,
): Promise<Ports> {
  await cluster.restore()
  try {
    if (prepare) cluster.start()
    await prepare?.(foundation)
    const { listen, admin } = foundation.settings
    const bound = await bindBoth(listener, listen, adminServer, admin)
    listeners.push(bound.data, bound.admin)
    if (!prepare) cluster.start()
    return bound
  } catch (error) {
    if (prepare) await cluster.stop()
    await foundation.store.close()
    throw error
  }
}

async function bindBoth(
  listener: Listener,
  listen: Address,
  adminServer: ControlPlane['adminServer'],
  admin: Address,
): Promise<Ports> {
  const data = await listener.listen(listen).catch((error) => {
    throw listenError('listen', listen, error)
  })
  try {
    return { data, admin: await adminServer.listen() }
  } catch (error) {
    listener.destroy()
    await listener.close()
    throw listenError('admin', admin, error)
  }
}
