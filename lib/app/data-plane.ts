import type { Cluster } from '../cluster/cluster.ts'
import { learnedIn } from '../cluster/leader/learned-state.ts'
import { UsedElsewhere } from '../cluster/membership/used-elsewhere.ts'
import { Contacts } from '../fleet/contacts.ts'
import { firstProbeMs } from '../gateway/admission/wait-until-probed.ts'
import { UpstreamPool } from '../gateway/availability/upstream-pool.ts'
import { Dispatch } from '../gateway/dispatch/dispatch.ts'
import { ModelLoader } from '../gateway/dispatch/model-loader.ts'
import { logLoopbackWarning } from '../gateway/http/loopback-warning.ts'
import { BlobIndex } from '../gateway/jobs/blob-index.ts'
import { BlobUploads } from '../gateway/jobs/blob-uploads.ts'
import { JobEndpoint } from '../gateway/jobs/job-endpoint.ts'
import { Listener } from '../gateway/listener.ts'
import { Passthrough } from '../gateway/models/passthrough.ts'
import { ShowCache } from '../gateway/models/show-cache.ts'
import { UnloadEverywhere } from '../gateway/models/unload-everywhere.ts'
import { Pipeline } from '../gateway/pipeline.ts'
import { Forwarder } from '../gateway/upstream/forwarder.ts'
import { NodeClient } from '../gateway/upstream/node-client.ts'
import { Scheduler } from '../scheduler/scheduler.ts'
import { isLoopback } from '../shared/net/address.ts'
import { Via } from '../shared/net/via.ts'
import { OwnFaults } from '../shared/process/own-faults.ts'
import type { Foundation } from './open-store.ts'

/** What requests pass through, from the listener to the nodes. */
export type DataPlane = ReturnType<typeof dataPlane>

/** @param cluster the control plane, which is made after this and there before the first request */
export function dataPlane(foundation: Foundation, cluster: () => Cluster) {
  const { settings, snapshot, clock, log, metrics } = foundation
  const loopback = isLoopback(settings.listen.host)
  const via = viaOf(foundation, cluster)
  const contacts = new Contacts(clock)
  const ownFaults = new OwnFaults(foundation)
  const noteFault = (error: unknown) => ownFaults.note(error)
  const requestProbe = (node: string) => cluster().requestProbe(node)

  const upstreams = new UpstreamPool({ ...foundation, contacts, via, changed: () => scheduler.refresh() })
  const forwarder = new Forwarder(clock, noteFault)
  const client = new NodeClient({ upstreams, forwarder, clock })
  const asking = { ...foundation, client, upstreams, forwarder, requestProbe }

  const loader = new ModelLoader(asking)
  const elsewhere = new UsedElsewhere({ loads: () => cluster().view.loads(), own: settings.name, clock })
  const scheduler = new Scheduler({
    ...foundation,
    upstreams,
    loader,
    usedElsewhere: () => elsewhere.nodes(),
    leads: () => cluster().isLeader(),
  })
  const isStarting = restoreLearned(foundation, scheduler)
  const dispatch = new Dispatch({ ...asking, scheduler, instance: settings.name, isStarting })

  const blobIndex = new BlobIndex(client)
  const management = new JobEndpoint({
    get jobs() {
      return cluster().jobs
    },
    blobs: blobIndex,
    clock,
  })
  logLoopbackWarning(snapshot, loopback, log)
  const pipeline = new Pipeline({
    ...foundation,
    dispatch,
    shows: new ShowCache(asking),
    unloads: new UnloadEverywhere(asking),
    management,
    passthrough: new Passthrough(asking),
    blobUploads: new BlobUploads({ blobIndex, client }),
    via,
    loopback,
  })
  const listener = new Listener(pipeline, { snapshot, metrics, refused: noteFault })
  return { loopback, contacts, ownFaults, upstreams, loader, scheduler, management, pipeline, listener }
}

/** Until the store's uid is known, the boot id marks requests that come back. */
function viaOf({ boot, snapshot }: Foundation, cluster: () => Cluster): Via {
  const via = new Via(boot)
  snapshot.onSwap(() => {
    const uid = cluster().view.uid()
    if (uid !== null) via.learn(uid)
  })
  return via
}

/**
 * Gives the scheduler what the cluster learned before, as soon as nodes are known; from then on it learns by itself.
 *
 * @returns whether the health of the nodes may still be from before this instance started
 */
function restoreLearned({ snapshot, clock }: Foundation, scheduler: Scheduler): () => boolean {
  let knownAt: number | null = null // in monotonic milliseconds
  snapshot.onSwap(() => {
    const { nodes } = snapshot.get()
    if (knownAt !== null || nodes.size === 0) return
    knownAt = clock.now()
    scheduler.restore(learnedIn(nodes.values()))
  })
  return () => knownAt !== null && clock.now() < knownAt + firstProbeMs
}
