import type { Snapshot } from '../fleet/snapshot.ts'
import type { Keys } from '../store/keys.ts'

/** Models named in one note; a node that was left behind may differ in all it has. */
const maxNamed = 10

/**
 * What the operator of a node should know of its models, by the key of its document: those of which another node has a
 * newer copy. Answers then depend on where a request lands. Equal fleets give equal texts, so nothing is written twice.
 */
export function noteOlderCopies({ models }: Snapshot, keys: Keys): Map<string, string[]> {
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
  return `other nodes have newer copies of ${names}: until it has the same, answers depend on the node`
}
