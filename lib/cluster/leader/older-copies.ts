import type { Snapshot } from '../../fleet/snapshot.ts'
import type { KeyLayout } from '../../store/key-layout.ts'

/** Models named in one warning: on an outdated node, all models may be older. */
const maxNamed = 10

/**
 * Warnings about models of which another node has a newer copy, by the key of the node's document. Responses then depend
 * on the node. Equal fleets give equal texts, so that a verdict is not written twice.
 */
export function noteOlderCopies({ models }: Snapshot, keys: KeyLayout): Map<string, string[]> {
  const byNode = new Map<string, string[]>()
  for (const { name, olderOn } of models.values()) {
    for (const node of olderOn) {
      const older = byNode.get(node)
      if (older) older.push(name)
      else byNode.set(node, [name])
    }
  }
  return new Map([...byNode].map(([node, older]) => [keys.node(node), [noteOn(older.sort())]]))
}

function noteOn(models: readonly string[]): string {
  const rest = models.length - maxNamed
  const names = models.slice(0, maxNamed).join(', ') + (rest > 0 ? ` and ${rest} more` : '')
  return `other nodes have newer copies of ${names}: until this node has the same, responses depend on the node`
}
