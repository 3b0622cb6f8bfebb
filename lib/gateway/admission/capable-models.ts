import { claims } from '../../fleet/models/capabilities.ts'
import type { Api } from '../../fleet/request-spec.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Caller } from '../http/authenticate.ts'
import { maySee } from './model-routing.ts'

/**
 * A model with a capability, for a request that names no model: loaded models first, then by name.
 *
 * @throws ProxyError `no_capable_model`
 */
export function modelWith(capability: string, caller: Caller, snapshot: Snapshot): string {
  const { models, nodes, loaded } = snapshot
  const inMemory = new Set(loaded.map(({ model }) => model.name))
  const capable = [...models.values()].flatMap(({ name, presentOn }) => {
    const able = presentOn
      .flatMap((node) => nodes.get(node) ?? [])
      .filter((node) => claims(node, name, capability))
    if (able.length === 0 || !maySee(caller, name)) return []
    return [{ name, rank: Number(able.some(({ weight }) => weight > 0)) + Number(inMemory.has(name)) }]
  })
  const best = capable.sort((a, b) => b.rank - a.rank || (a.name < b.name ? -1 : 1))[0]
  if (!best) throw new ProxyError('no_capable_model', { capability })
  return best.name
}

/** The capability that a model needs, for an API with requests that name no model. */
const capabilities: Readonly<Partial<Record<Api, string>>> = { ollama_systemone: 'decision' }

export function capabilityFor(api: Api): string | undefined {
  return capabilities[api]
}

const none: ReadonlySet<string> = new Set()

/**
 * Nodes with a model that, by their own capability lists, cannot serve requests of an API: mostly their Ollama is too
 * old. Empty when the API needs no capability, or no node lists any.
 *
 * @throws ProxyError `lacks_capability` when no node can.
 */
export function unableNodes(api: Api, model: string, { models, nodes }: Snapshot): ReadonlySet<string> {
  const capability = capabilities[api]
  if (capability === undefined) return none
  const having = (models.get(model)?.presentOn ?? []).flatMap((name) => nodes.get(name) ?? [])
  const areListed = having.some(({ status }) =>
    status?.models.some(({ name, capabilities }) => name === model && capabilities !== undefined),
  )
  if (!areListed) return none
  const unable = having.filter((node) => !claims(node, model, capability))
  if (unable.length === having.length) throw new ProxyError('lacks_capability', { model, capability })
  return new Set(unable.map(({ name }) => name))
}
