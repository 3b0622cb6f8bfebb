import type { Config } from '../../fleet/config.ts'
import { canonicalName, isCloudName, matchesModel, namesTwoSources } from '../../fleet/documents/names.ts'
import type { NodeView } from '../../fleet/node.ts'
import type { RouteView, Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Caller } from '../http/authenticate.ts'
import { classOf, resolve } from './resolve-model.ts'

/** The model that a request gets. */
export interface ModelChoice {
  /** Canonical form of the requested name. */
  readonly asked: string
  /** Canonical name of the model that shall answer. */
  readonly model: string
  /** The route that matched. */
  readonly route: RouteView | null
  /** A fallback model was chosen because no node can serve the requested one now. */
  readonly isFallback: boolean
  /** Priority class of the request. */
  readonly class: string
}

/**
 * Chooses the model for a requested name, and checks that the caller may use it.
 *
 * @throws ProxyError `missing_model`, `bad_model`, `two_sources`, `cloud_refused`; `model_not_found` (also for a model the
 *   caller's key does not cover: the two must look alike); `no_config`, `no_nodes` and `not_ready` when there is nothing to judge by yet.
 */
export function chooseModel(name: string, caller: Caller, snapshot: Snapshot): ModelChoice {
  // Names in the inventory are canonical. The same string is used in all lookups.
  const asked = snapshot.models.get(name)?.name ?? canonicalName(name)
  if (!asked && name.trim() === '') throw new ProxyError('missing_model')
  if (!asked && namesTwoSources(name))
    throw new ProxyError('two_sources', { model: JSON.stringify(name.slice(0, 200)) })
  if (isCloudName(name) && callerPolicyOf(caller, snapshot).cloud === 'refuse')
    throw new ProxyError('cloud_refused', { model: name.slice(0, 400) })
  if (!asked) throw new ProxyError('bad_model', { model: JSON.stringify(name.slice(0, 200)) })
  if (!maySee(caller, asked)) throw new ProxyError('model_not_found', { model: name.slice(0, 400) })
  const { route, model, isFallback } = resolve(asked, caller.tenant, snapshot)
  if (!model) throw absent(name, snapshot)
  return { asked, model, route, isFallback, class: classOf(route, caller.class, snapshot) }
}

/** What the caller may do with options: by its key, else by the configuration. */
export function callerPolicyOf({ options }: Caller, { config }: Snapshot): Config['callers'] {
  return options ? { ...config.callers, ...options } : config.callers
}

/** Whether the caller's key covers a model, by its canonical name. */
export function maySee(caller: Caller, model: string): boolean {
  return caller.models.some((glob) => matchesModel(glob, model))
}

/** The error for an absent model. */
export function absent(model: string, snapshot: Snapshot): ProxyError {
  if (snapshot.nodes.size === 0) return new ProxyError(snapshot.revision === '0' ? 'no_config' : 'no_nodes')
  // A node that was not probed yet may have the model.
  const isUnseen = ({ spec, status }: NodeView) =>
    spec.state !== 'off' && (status === null || (status.health === 'slow' && status.version === ''))
  return [...snapshot.nodes.values()].some(isUnseen)
    ? new ProxyError('not_ready')
    : new ProxyError('model_not_found', { model: model.slice(0, 400) })
}
