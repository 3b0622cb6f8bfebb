import { hash } from 'node:crypto'
import { matchesLabels } from '../../fleet/documents/field-schemas.ts'
import { type NodeView, preferWell } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'

/**
 * Where a tenant's blobs go, `management.copies` nodes: the same for each of them, since a node can create a model only of
 * files that are all its own. By rendezvous hashing, so that a node which comes or goes moves nobody else's; every
 * instance finds the same. Empty when no node may take them now.
 */
export function homesOf(tenant: string, { nodes, config }: Snapshot): readonly NodeView[] {
  const { copies, nodes: labels } = config.management
  const able = preferWell(nodes.values()).filter((node) => matchesLabels(labels, node.spec.labels))
  if (copies === 'all') return able
  return able
    .map((node) => ({ node, rank: hash('sha256', JSON.stringify([tenant, node.name]), 'hex') }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1))
    .slice(0, copies)
    .map(({ node }) => node)
}
