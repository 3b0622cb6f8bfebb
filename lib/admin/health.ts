import type Router from '@koa/router'
import { pruneSeries } from '../cluster/metric-series.ts'
import { canonicalName } from '../fleet/names.ts'
import type { NodeView } from '../fleet/node.ts'
import { isServable, resolve } from '../gateway/resolve.ts'
import type { AdminContext } from './context.ts'

/** For load balancers, VIP managers and Prometheus: cheap, open, and never asking the store or a node. */
export function healthRoutes(router: Router, admin: AdminContext): void {
  router.get('/livez', (context) => {
    context.body = 'alive\n'
  })

  router.get('/readyz', (context) => {
    const reason = unreadiness(admin, context.query['model'])
    context.status = reason === null ? 200 : 503
    context.body = `${reason ?? 'ready'}\n${storeLine(admin)}`
  })

  router.get('/leader', (context) => {
    const leads = admin.cluster.isProvenLeader()
    context.status = leads ? 200 : 503
    context.body = leads ? 'leader\n' : 'standby\n'
  })

  router.get('/metrics', async (context) => {
    readGauges(admin)
    await pruneSeries(admin.metrics, () => admin.snapshot.get())
    context.type = admin.metrics.registry.contentType
    context.body = await admin.metrics.registry.metrics()
  })
}

function unreadiness(
  { snapshot, cluster, upstreams, instance, isDraining, ownFaults }: AdminContext,
  model: unknown,
): string | null {
  if (isDraining()) return 'draining'
  if (ownFaults.reason !== null) return ownFaults.reason
  if (!snapshot.isReady) return 'no configuration yet'
  const { cutOff, duplicate } = cluster
  if (duplicate !== null)
    return `duplicate name: another process is registered as "${instance}" (${duplicate}); set LLAMERO_NAME to a name of its own`
  if (cutOff)
    return `cut off: this instance reaches none of ${cutOff.nodes} nodes, instance ${cutOff.peer} does; check its network`
  if (typeof model !== 'string') return null
  const current = snapshot.get()
  // As for a request, so that an alias is ready when its model is.
  const resolution = resolve(canonicalName(model) ?? '', 'anonymous', current)
  // Advice alone never stops traffic: when one leader errs, a load balancer would take out every instance.
  const mayServe = (node: NodeView) => !upstreams.isUnresponsive(node.name) && !cluster.findsDown(node)
  return isServable(resolution, current, mayServe) ? null : 'no node can serve this model'
}

/** What only changes and advice wait for: requests go on. */
function storeLine({ store }: AdminContext): string {
  const trouble = store.condition?.trouble
  if (!trouble) return ''
  return `store: ${trouble.refuses === 'writes' ? 'read-only' : 'refused'}, ${trouble.reason}\n`
}

/** Gauges that are states, not events, are read when they are asked for. */
function readGauges({ cluster, metrics, pipeline, scheduler, snapshot }: AdminContext): void {
  cluster.measure()
  metrics.bodyBytes.set(pipeline.bodyBytes)
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
    for (const [model, slots] of scheduler.slotsOf(node)) metrics.nodeSlots.set({ node, model }, slots)
  }
}
