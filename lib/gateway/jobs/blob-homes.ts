import { hash } from 'node:crypto'
import { matchesLabels } from '../../fleet/documents/field-schemas.ts'
import { type NodeView, preferWell } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'

/**
 * The nodes for a tenant's blobs, `management.copies` of them: the same for all its blobs, since a node can create a
 * model only when it has all files. Chosen by rendezvous hashing: a node that joins or leaves moves no other tenant's
 * blobs, and every instance chooses the same. Empty when no node may take them now.
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
