import { randomUUID } from 'node:crypto'
import { mkdir, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { AdminServer } from './admin/server.ts'
import { readOrCreateToken } from './admin/token.ts'
import { Cluster } from './cluster/cluster.ts'
import { SnapshotFile } from './cluster/config/snapshot-file.ts'
import { learnedIn } from './cluster/leader/learned-state.ts'
import { succeedPredecessor } from './cluster/membership/predecessor.ts'
import { UsedElsewhere } from './cluster/membership/used-elsewhere.ts'
import { Contacts } from './fleet/contacts.ts'
import { CurrentSnapshot } from './fleet/snapshot.ts'
import { firstProbeMs } from './gateway/admission/wait-until-probed.ts'
import { UpstreamPool } from './gateway/availability/upstream-pool.ts'
import { Dispatch } from './gateway/dispatch/dispatch.ts'
import { ModelLoader } from './gateway/dispatch/model-loader.ts'
import { logLoopbackWarning } from './gateway/http/loopback-warning.ts'
import { BlobIndex } from './gateway/jobs/blob-index.ts'
import { BlobUploads } from './gateway/jobs/blob-uploads.ts'
import { JobEndpoint } from './gateway/jobs/job-endpoint.ts'
import { Listener } from './gateway/listener.ts'
import { Passthrough } from './gateway/models/passthrough.ts'
import { ShowCache } from './gateway/models/show.ts'
import { UnloadEverywhere } from './gateway/models/unload-everywhere.ts'
import { Pipeline } from './gateway/pipeline.ts'
import { Forwarder } from './gateway/upstream/forwarder.ts'
import { NodeClient } from './gateway/upstream/node-client.ts'
import { Scheduler } from './scheduler/scheduler.ts'
import { adminTokenFile, isJournal, type Settings } from './settings.ts'
import { type Clock, RealClock } from './shared/clock.ts'
import { ProxyError } from './shared/errors.ts'
import type { Log, ProcessLog } from './shared/log.ts'
import { Metrics } from './shared/metrics.ts'
import { type Address, formatAddress, isLoopback } from './shared/net/address.ts'
import { checkSomaxconn } from './shared/net/somaxconn.ts'
import { Via } from './shared/net/via.ts'
import { OwnFaults } from './shared/process/own-faults.ts'
import { directoryFault } from './shared/process/secret-file.ts'
import type { Random } from './shared/random.ts'
import { createLog } from './shared/winston.ts'
import { listenError, sayLogLoss, stateError } from './start-error.ts'
import { EmbeddedStore } from './store/embedded/embedded-store.ts'
import { EtcdStore } from './store/etcd/etcd-store.ts'
import { Keys } from './store/keys.ts'
import type { Store } from './store/store.ts'
import { version } from './version.ts'

/** Milliseconds that a stop gives to load balancers, and to the requests that run. */
interface StopLimits {
  readonly graceMs: number
  readonly drainMs: number
}

/** What callers get who do not read their last words at once. */
const lastWordsMs = 100

/** A running instance. */
export interface App {
  readonly data: Address
  readonly admin: Address
  readonly log: ProcessLog
  /** The limits its settings give to a stop that is not in a hurry. */
  readonly patience: StopLimits
  /** The store, for what is composed on top of an instance (quickstart). */
  readonly store: Store
  readonly keys: Keys
  readonly snapshot: CurrentSnapshot
  /**
   * Drains and stops: `/readyz` says 503 at once, no new connections after `graceMs`, running requests get until
   * `drainMs`, then an error in their dialect and a cut. Calling it again stops at once.
   */
  stop(limits?: StopLimits): Promise<void>
}

/** What is composed on top of an instance. */
export type Parts = Pick<App, 'store' | 'keys' | 'snapshot'>

/**
 * The composition root: every `new`, in start order; stopped in reverse. Rejects when a port cannot be bound.
 *
 * @param prepare awaited while the instance follows its store and no port is open: the first caller finds what it made.
 */
export async function startApp(settings: Settings, prepare?: (parts: Parts) => Promise<void>): Promise<App> {
  const clock = new RealClock()
  const random = Math.random
  const log = createLog({
    level: settings.logLevel,
    format: settings.logFormat,
    journal: isJournal(1),
    lost: sayLogLoss,
  })
  const metrics = new Metrics()
  metrics.buildInfo.set({ version, node_version: process.version }, 1)
  const token = await openState(settings.state, log).catch((error) => {
    throw stateError(settings.state, error)
  })

  const keys = new Keys(settings.cluster)
  const store = await openStore(settings, { clock, random, log, metrics })
  const snapshot = new CurrentSnapshot()

  const contacts = new Contacts(clock)
  const boot = randomUUID()
  const via = new Via(boot)
  snapshot.onSwap(() => {
    const uid = cluster.view.uid()
    if (uid !== null) via.learn(uid)
  })
  const upstreams = new UpstreamPool({
    snapshot,
    contacts,
    via,
    metrics,
    log,
    clock,
    random,
    changed: () => scheduler.refresh(),
  })
  const ownFaults = new OwnFaults({ clock, log, metrics })
  const forwarder = new Forwarder(clock, (error) => ownFaults.note(error))
  const api = new NodeClient({ upstreams, forwarder, clock })
  const doubt = (node: string) => cluster.requestProbe(node)
  const loader = new ModelLoader({ client: api, snapshot, upstreams, clock, metrics, requestProbe: doubt })
  const elsewhere = new UsedElsewhere({ loads: () => cluster.view.loads(), own: settings.name, clock })
  const scheduler = new Scheduler({
    snapshot,
    upstreams,
    loader,
    clock,
    random,
    log,
    metrics,
    usedElsewhere: () => elsewhere.nodes(),
    leads: () => cluster.isLeader(),
  })
  /** When the nodes were known first, in monotonic milliseconds. */
  let knownAt: number | null = null
  snapshot.onSwap(() => {
    const { nodes } = snapshot.get()
    if (knownAt !== null || nodes.size === 0) return
    knownAt = clock.now()
    scheduler.restore(learnedIn(nodes.values())) // from then on it learns by itself
  })
  const dispatch = new Dispatch({
    scheduler,
    upstreams,
    forwarder,
    clock,
    metrics,
    log,
    instance: settings.name,
    requestProbe: doubt,
    isStarting: () => knownAt !== null && clock.now() < knownAt + firstProbeMs,
  })
  const holders = new BlobIndex(api)
  const management = new JobEndpoint({
    get jobs() {
      return cluster.jobs
    },
    blobs: holders,
    clock,
  })
  const loopback = isLoopback(settings.listen.host)
  logLoopbackWarning(snapshot, loopback, log)
  const pipeline = new Pipeline({
    snapshot,
    dispatch,
    shows: new ShowCache({ client: api, upstreams, requestProbe: doubt }),
    unloads: new UnloadEverywhere({ client: api, clock, requestProbe: doubt }),
    management,
    passthrough: new Passthrough({ upstreams, forwarder, clock, requestProbe: doubt }),
    blobUploads: new BlobUploads({ blobIndex: holders, client: api }),
    clock,
    log,
    metrics,
    via,
    loopback,
  })
  const listener = new Listener(pipeline, { snapshot, metrics, refused: (error) => ownFaults.note(error) })

  const cluster = new Cluster({
    store,
    keys,
    snapshot,
    clock,
    random,
    log,
    metrics,
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

  let draining = false
  let stopped: Promise<void> | null = null
  const setDraining = (wanted: boolean) => {
    draining = wanted
    cluster.setDraining(wanted)
  }
  let listeners: readonly Address[] = []
  const adminServer = new AdminServer({
    clusterName: settings.cluster,
    instance: settings.name,
    listen: settings.admin,
    listeners: () => listeners,
    loopback,
    token,
    store,
    keys,
    cluster,
    snapshot,
    scheduler,
    upstreams,
    pipeline,
    ownFaults,
    jobs: cluster.jobs,
    management,
    metrics,
    clock,
    log,
    isDraining: () => draining,
    setDraining: (wanted) => setDraining(wanted || stopped !== null),
  })

  const hurry = new AbortController()
  const drain = async ({ graceMs, drainMs }: StopLimits) => {
    setDraining(true)
    const { running } = scheduler.summary()
    log.info('draining', { running: Object.values(running).reduce((sum, each) => sum + each, 0) })
    // Load balancers look at /readyz every few seconds: they must see it before connections are refused.
    await clock.sleep(graceMs, hurry.signal).catch(() => {})
    const closed = listener.close()
    await Promise.race([pipeline.exchanges.idle(), clock.sleep(drainMs, hurry.signal)]).catch(() => {})
    const cut = pipeline.exchanges.abortAll(new ProxyError('shutting_down'))
    if (cut > 0) log.warn('requests cut off', { requests: cut })
    await Promise.race([pipeline.exchanges.idle(), clock.sleep(lastWordsMs)])
    listener.destroy()
    await closed
    await adminServer.close()
    await cluster.stop()
    ownFaults.stop()
    loader.stop()
    upstreams.destroy()
    await store.close()
    log.info('stopped')
  }
  await cluster.restore()
  if (prepare) cluster.start()
  const bound = await Promise.resolve(prepare?.({ store, keys, snapshot }))
    .then(() => bindAll(listener, adminServer, settings))
    .catch(async (error) => {
      if (prepare) await cluster.stop()
      await store.close()
      throw error
    })
  listeners = [bound.data, bound.admin]
  await checkSomaxconn(log)
  ownFaults.start()
  if (!prepare) cluster.start() // not before its ports are its own
  log.info('serving', {
    version,
    data: formatAddress(bound.data),
    admin: formatAddress(bound.admin),
    store: store.kind,
    instance: settings.name,
  })

  return {
    ...bound,
    log,
    patience: settings.patience,
    store,
    keys,
    snapshot,
    stop: (limits = { graceMs: 0, drainMs: 0 }) => {
      if (stopped !== null) hurry.abort()
      stopped ??= drain(limits)
      return stopped
    },
  }
}

interface Shared {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
}

/** Makes the state directory if there is none; resolves to the admin token in it. */
async function openState(directory: string, log: Log): Promise<string> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const fault = directoryFault(directory, await stat(directory))
  if (fault !== null) log.warn('the state directory is not safe', { reason: fault })
  return readOrCreateToken(adminTokenFile(directory))
}

function openStore(settings: Settings, shared: Shared): Promise<Store> | Store {
  if (settings.etcd.length === 0) {
    shared.metrics.storeUp.set(1) // a file of our own is always within reach
    return EmbeddedStore.open(join(settings.state, 'store.journal'), shared)
  }
  return new EtcdStore({
    endpoints: settings.etcd,
    ...(settings.etcdTls && { tls: settings.etcdTls }),
    ...shared,
  })
}

/** By cluster and instance: several may share a state directory, and none may start from what another cluster left. */
function ownFile({ state, cluster, name }: Settings, what: string, suffix = ''): string {
  return join(state, `${what}-${cluster}-${name}${suffix}`)
}

async function bindAll(
  listener: Listener,
  adminServer: AdminServer,
  settings: Settings,
): Promise<{ data: Address; admin: Address }> {
  const data = await listener.listen(settings.listen).catch((error) => {
    throw listenError('listen', settings.listen, error)
  })
  try {
    return { data, admin: await adminServer.listen() }
  } catch (error) {
    listener.destroy()
    await listener.close()
    throw listenError('admin', settings.admin, error)
  }
}
