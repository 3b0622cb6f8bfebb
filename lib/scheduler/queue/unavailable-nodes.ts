import type { NodeView } from '../../fleet/node.ts'
import type { RequestSpec } from '../../fleet/request-spec.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { AvailabilityBarrier, FleetAvailability } from '../fleet/availability.ts'

/** Nodes that an error text names. */
const maxNamed = 5

const barrierTexts: Readonly<Record<AvailabilityBarrier, string>> = {
  busy: 'asked for a pause',
  trial: 'failed lately; a trial request is under way',
  ejected: 'failed too many requests lately',
  frozen: 'takes connections and answers nothing',
  refused: 'refuses connections',
}

/**
 * The nodes that have a model, and why none takes a request for it: `gpu-1 (down), gpu-2 (cordoned)`. Without names if the
 * config hides them from callers; empty if no node has the model.
 */
export function unavailableNodesText(
  { model, tried }: Pick<RequestSpec, 'model' | 'tried'>,
  { config, nodes, models }: Snapshot,
  upstreams: FleetAvailability,
): string {
  const names = models.get(model)?.presentOn ?? []
  const named = names.slice(0, maxNamed).flatMap((name) => {
    const node = nodes.get(name)
    return node
      ? [{ name, reason: reasonOf(node, tried, upstreams.availabilityOf(name, model).barrier) }]
      : []
  })
  if (!config.headers.node) return [...new Set(named.map(({ reason }) => reason))].join(', ')
  const rest = names.length - named.length
  return (
    named.map(({ name, reason }) => `${name} (${reason})`).join(', ') + (rest > 0 ? ` and ${rest} more` : '')
  )
}

function reasonOf(node: NodeView, tried: ReadonlySet<string>, barrier: AvailabilityBarrier | null): string {
  const { departed, spec, status, weight, health, name } = node
  if (departed) return 'not registered any more'
  if (spec.state !== 'active') return spec.state
  if (status === null) return 'not probed yet'
  if (!(weight > 0)) return 'weight 0'
  if (barrier !== null) return barrierTexts[barrier]
  if (health === 'down') return 'down'
  return tried.has(name) ? 'failed this request' : 'cannot load it now'
}
