import { CurrentSnapshot, type Snapshot } from '../../lib/fleet/snapshot.ts'
import { UpstreamPool } from '../../lib/gateway/availability/upstream-pool.ts'
import { Dispatch } from '../../lib/gateway/dispatch/dispatch.ts'
import { ModelLoader } from '../../lib/gateway/dispatch/model-loader.ts'
import { BlobIndex } from '../../lib/gateway/jobs/blob-index.ts'
import { BlobUploads } from '../../lib/gateway/jobs/blob-uploads.ts'
import { JobEndpoint } from '../../lib/gateway/jobs/job-endpoint.ts'
import { Listener } from '../../lib/gateway/listener.ts'
import { Passthrough } from '../../lib/gateway/models/passthrough.ts'
import { ShowCache } from '../../lib/gateway/models/show-cache.ts'
import { UnloadEverywhere } from '../../lib/gateway/models/unload-everywhere.ts'
import { Pipeline } from '../../lib/gateway/pipeline.ts'
import { Forwarder } from '../../lib/gateway/upstream/forwarder.ts'
import { NodeClient } from '../../lib/gateway/upstream/node-client.ts'
import { Scheduler } from '../../lib/scheduler/scheduler.ts'
import { type Clock, RealClock } from '../../lib/shared/clock.ts'
import type { Log } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { Via } from '../../lib/shared/net/via.ts'
import { FakeJobs } from './jobs.ts'
import { usedNowhere } from './scheduler.ts'

export interface LoggedLine {
  readonly level: string
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
}

interface GatewaySketch {
  readonly loopback?: boolean
  /** Of the listener, where its own are too patient for a test. */
  readonly limits?: NonNullable<ConstructorParameters<typeof Listener>[1]['limits']>
  readonly clock?: Clock
}

/** The data side alone, on a free port of loopback, over a snapshot made by hand. */
export async function startGateway(
  snapshot: Snapshot,
  { loopback = true, limits = {}, clock = new RealClock() }: GatewaySketch = {},
) {
  const current = new CurrentSnapshot()
  current.swap(snapshot)
  const metrics = new Metrics()
  const lines: LoggedLine[] = []
  /** Nodes that the leader was asked to look at. */
  const doubted: string[] = []
  const keep = (level: string) => (message: string, fields?: Readonly<Record<string, unknown>>) =>
    void lines.push({ level, message, fields: fields ?? {} })
  const log: Log = { error: keep('error'), warn: keep('warn'), info: keep('info'), debug: keep('debug') }
  const via = new Via('test-process')
  const upstreams = new UpstreamPool({
    snapshot: current,
    via,
    metrics,
    log,
    clock,
    random: () => 0.5,
    changed: () => scheduler.refresh(),
  })
  const forwarder = new Forwarder(clock)
  const api = new NodeClient({ upstreams, forwarder, clock })
  const doubt = (node: string) => void doubted.push(node)
  const loader = new ModelLoader({
    client: api,
    snapshot: current,
    upstreams,
    clock,
    metrics,
    requestProbe: doubt,
  })
  const scheduler = new Scheduler({
    snapshot: current,
    upstreams,
    loader,
    clock,
    random: () => 0.5,
    log,
    metrics,
    usedElsewhere: () => usedNowhere,
    leads: () => true,
  })
  const dispatch = new Dispatch({
    scheduler,
    upstreams,
    forwarder,
    clock,
    metrics,
    log,
    instance: 'test-instance',
    requestProbe: doubt,
    isStarting: () => false,
  })
  const shows = new ShowCache({ client: api, upstreams, requestProbe: doubt })
  const unloads = new UnloadEverywhere({ client: api, clock, requestProbe: doubt })
  const jobs = new FakeJobs(current)
  const holders = new BlobIndex(api)
  const blobUploads = new BlobUploads({ blobIndex: holders, client: api })
  const management = new JobEndpoint({ jobs, blobs: holders, clock })
  const passthrough = new Passthrough({ upstreams, forwarder, clock, requestProbe: doubt })
  const pipeline = new Pipeline({
    snapshot: current,
    dispatch,
    shows,
    unloads,
    management,
    passthrough,
    blobUploads,
    clock,
    log,
    metrics,
    via,
    loopback,
  })
  const listener = new Listener(pipeline, { snapshot: current, metrics, limits })
  const { port } = await listener.listen({ host: '127.0.0.1', port: 0 })
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    current,
    scheduler,
    upstreams,
    pipeline,
    metrics,
    lines,
    doubted,
    jobs,
    management,
    async [Symbol.asyncDispose]() {
      listener.destroy()
      await listener.close()
      loader.stop()
      upstreams.destroy()
    },
  }
}
