import type { CurrentSnapshot, Snapshot } from '../../fleet/snapshot.ts'
import type { Metrics } from '../../shared/metrics.ts'

/** Brings the metrics of the snapshot up to date, where it differs from the one before. */
export function measureSnapshot(metrics: Metrics, former: Snapshot, snapshot: CurrentSnapshot): void {
  const current = snapshot.get()
  metrics.configRevision.set(Number(current.revision))
  if (current.models !== former.models)
    metrics.digestMismatch.set(
      [...current.models.values()].filter(({ olderOn }) => olderOn.length > 0).length,
    )
  for (const [name, node] of current.nodes)
    if (former.nodes.get(name) !== node) {
      metrics.nodeUp.set({ node: name }, node.health === 'up' || node.health === 'slow' ? 1 : 0)
      metrics.nodeSlow.set({ node: name }, node.health === 'slow' ? 1 : 0)
    }
  if (hasLost(former, current)) void pruneSeries(metrics, () => snapshot.get())
}

/** Removes the metric series of nodes, models and classes that are not in the snapshot any more. */
export async function pruneSeries(metrics: Metrics, current: () => Snapshot): Promise<void> {
  await metrics.keepOnly('node', (name) => current().nodes.has(name))
  await metrics.keepOnly('model', (name) => current().models.has(name))
  await metrics.keepOnly('class', (name) => current().config.classes.some((each) => each.name === name))
}

/** Whether something that has series of its own is not in the snapshot any more. */
function hasLost(former: Snapshot, current: Snapshot): boolean {
  return (
    lacks(former.nodes, current.nodes) ||
    lacks(former.models, current.models) ||
    lacks(classesOf(former), classesOf(current))
  )
}

function lacks(before: ReadonlyMap<string, unknown>, now: ReadonlyMap<string, unknown>): boolean {
  if (before === now) return false
  for (const name of before.keys()) if (!now.has(name)) return true
  return false
}

function classesOf({ config }: Snapshot): ReadonlyMap<string, unknown> {
  return new Map(config.classes.map((each) => [each.name, each]))
}
