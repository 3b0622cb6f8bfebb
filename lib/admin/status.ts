import type Router from '@koa/router'
import type { NodeView } from '../fleet/node.ts'
import { version } from '../version.ts'
import { type AdminContext, apiVersion } from './context.ts'

/** The cluster at a glance, and its instances. */
export function statusRoutes(router: Router, admin: AdminContext): void {
  const startedAt = admin.clock.now()
  router.get('/admin/v1/status', (context) => {
    const { cluster, clock, snapshot, store } = admin
    const { revision, nodes, models, loaded } = snapshot.get()
    const leader = cluster.leader()
    const contact = cluster.lastContactMs()
    context.body = {
      apiVersion,
      cluster: admin.clusterName,
      version,
      instance: {
        id: admin.instance,
        role: cluster.isLeader() ? 'leader' : 'standby',
        uptime_seconds: Math.round((clock.now() - startedAt) / 1000),
        draining: admin.isDraining(),
      },
      leader: leader === null ? null : { id: leader, fence: String(cluster.leaderFence() ?? 0n) },
      store: {
        kind: store.kind,
        ok: cluster.following,
        last_contact_seconds: contact === null ? null : Math.round((clock.now() - contact) / 100) / 10,
      },
      config: {
        revision,
        rejected: cluster.rejected().map(({ key, verdict }) => ({ key, errors: verdict.errors })),
      },
      nodes: countNodes([...nodes.values()]),
      models: { on_disk: models.size, loaded: new Set(loaded.map(({ model }) => model.name)).size },
      instances: cluster.instances().length,
      requests: requests(admin),
    }
  })

  router.get('/admin/v1/instances', (context) => {
    const instances = admin.cluster.instances().map(({ boot: _boot, ...instance }) => instance)
    context.body = { apiVersion, instances }
  })
}

function countNodes(nodes: readonly NodeView[]) {
  return {
    total: nodes.length,
    up: nodes.filter((node) => node.status?.health === 'up').length,
    down: nodes.filter((node) => node.status?.health === 'down').length,
    cordoned: nodes.filter((node) => node.spec.state === 'cordoned').length,
  }
}

/** Of all instances: the others' numbers are up to a second old, ours are live. */
function requests({ cluster, scheduler, instance }: AdminContext) {
  const loads = [...cluster.loads()].filter(([id]) => id !== instance).map(([, load]) => load)
  const all = [...loads, scheduler.summary()]
  return {
    running: all.flatMap(({ running }) => Object.values(running)).reduce((sum, each) => sum + each, 0),
    queued: all.reduce((sum, { queued }) => sum + queued, 0),
  }
}
