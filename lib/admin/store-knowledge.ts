import type { clusterSources } from '../api/instances.ts'
import type { Store } from '../store/store.ts'
import type { AdminContext } from './admin-context.ts'

/** See `clusterSources`. */
export function clusterSource({ cluster }: AdminContext): (typeof clusterSources)[number] {
  if (cluster.following) return 'store'
  return cluster.synced ? 'memory' : 'none'
}

/** Seconds since the last answer of the store, in tenths; null before the first. */
export function silentSeconds({ cluster, clock }: AdminContext): number | null {
  const contact = cluster.lastContactMs()
  return contact === null ? null : Math.round((clock.now() - contact) / 100) / 10
}

/** What an operator can do about a store that does not answer; null for a store without servers. */
export function remedyOf({ endpoints = [] }: Pick<Store, 'endpoints'>): string | null {
  if (endpoints.length === 0) return null
  const isTls = endpoints.some((endpoint) => endpoint.startsWith('https:'))
  const flags = isTls ? ' with --cacert, --cert and --key' : ''
  return `check etcd: etcdctl endpoint health --endpoints ${endpoints.join(',')}${flags}; on its machines: systemctl status etcd`
}
