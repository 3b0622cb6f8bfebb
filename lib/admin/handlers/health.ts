import type { healthEndpoints } from '../../api/health.ts'
import { pruneSeries } from '../../cluster/config/metric-series.ts'
import { canonicalName } from '../../fleet/documents/names.ts'
import type { NodeView } from '../../fleet/node.ts'
import { isServable, resolve } from '../../gateway/admission/resolve-model.ts'
import { type Handlers, Reply } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'

/** For load balancers, VIP managers and Prometheus: cheap, open, without a call to the store or a node. */
export function healthHandlers(admin: AdminContext): Handlers<typeof healthEndpoints> {
  return {
    readLiveness: () => 'alive\n',

    readReadiness: ({ query: { model } }) => {
      const reason = unreadiness(admin, model)
      const text = `${reason ?? 'ready'}\n${storeLine(admin)}`
      return reason === null ? text : new Reply(503, text)
    },

    readLeadership: () => (admin.cluster.isProvenLeader() ? 'leader\n' : new Reply(503, 'standby\n')),

    readMetrics: async () => {
      readGauges(admin)
      await pruneSeries(admin.metrics, () => admin.snapshot.get())
      return admin.metrics.registry.metrics()
    },
  }
}

function unreadiness(
  { snapshot, cluster, upstreams, instance, isDraining, ownFaults }: AdminContext,
  model: string | undefined,
): string | null {
  if (isDraining()) return 'draining'
  if (ownFaults.reason !== null) return ownFaults.reason
  if (!snapshot.isReady) return 'no configuration yet'
  const { cutOff, duplicate } = cluster
  if (duplicate !== null)
    return `duplicate name: another process is registered as "${instance}" (${duplicate}); set LLAMERO_NAME to a name of its own`
  if (cutOff)
    return `cut off: this instance reaches none of ${cutOff.nodes} nodes, instance ${cutOff.peer} does; check its network`
  if (model === undefined) return null
  const current = snapshot.get()
  // Resolved as for a request, so that an alias is ready when its model is.
  const resolution = resolve(canonicalName(model) ?? '', 'anonymous', current)
  // Advice alone never stops traffic: on one leader's error a load balancer would take out every instance.
  const mayServe = (node: NodeView) => !upstreams.isUnresponsive(node.name) && !cluster.findsDown(node)
  return isServable(resolution, current, mayServe) ? null : 'no node can serve this model'
}

/** The condition of the store. It affects only changes and advice: requests go on. */
function storeLine({ store }: AdminContext): string {
  const trouble = store.condition?.trouble
  if (!trouble) return ''
  return `store: ${trouble.refuses === 'writes' ? 'read-only' : 'refused'}, ${trouble.reason}\n`
}

/** Gauges of states, not of events, are set at each scrape. */
function readGauges({ cluster, metrics, pipeline, scheduler, snapshot, upstreams }: AdminContext): void {
  cluster.measure()
  metrics.bodyBytes.set(pipeline.bodies.heldBytes)
  const { nodes, config } = snapshot.get()
  const waiting = scheduler.queuedByClass()
  metrics.queueLength.reset()
  metrics.queueOldest.reset()
  for (const name of new Set([...config.classes.map((each) => each.name), ...waiting.keys()])) {
    const { count = 0, oldestMs = 0 } = waiting.get(name) ?? {}
    metrics.queueLength.set({ class: name }, count)
    metrics.queueOldest.set({ class: name }, oldestMs / 1000)
  }
  metrics.nodeSlots.reset()
  for (const node of nodes.keys()) {
    metrics.nodeInflight.set({ node }, scheduler.running(node))
    metrics.nodeFrozen.set({ node }, upstreams.isFrozen(node) ? 1 : 0)
    for (const [model, slots] of scheduler.slotsOf(node)) metrics.nodeSlots.set({ node, model }, slots)
  }
}
