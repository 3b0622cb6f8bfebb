import type { Snapshot } from '../fleet/snapshot.ts'
import type { Metrics } from '../shared/metrics.ts'

/** Removes the metric series of nodes, models and classes that are not in the snapshot any more. */
export async function pruneSeries(metrics: Metrics, current: () => Snapshot): Promise<void> {
  await metrics.keepOnly('node', (name) => current().nodes.has(name))
  await metrics.keepOnly('model', (name) => current().models.has(name))
  await metrics.keepOnly('class', (name) => current().config.classes.some((each) => each.name === name))
}

/** Whether something that has series of its own is not there any more. */
export function hasLost(former: Snapshot, current: Snapshot): boolean {
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
