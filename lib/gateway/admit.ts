import type { Ask } from '../fleet/ask.ts'
import { canonicalName } from '../fleet/names.ts'
import { matchesGlob } from '../fleet/schema.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Caller } from './authenticate.ts'
import type { Exchange } from './exchange.ts'
import { resolve } from './resolve.ts'
import type { Route } from './routes.ts'
import { ScanError, type Scanned, scan } from './scan.ts'

/** A request that may come in: what the scheduler is asked for, and the bytes a node will get. */
export interface Admission {
  readonly ask: Ask
  readonly body: Buffer
  /** The answer begins with its first token, not when all is done. */
  readonly streams: boolean
  /** The model asked for was replaced because no node can serve it now. */
  readonly isFallback: boolean
}

type ForwardRoute = Extract<Route, { action: 'forward' }>

/**
 * Decides whether a request may come in, and for which model.
 *
 * @throws ProxyError `bad_json`, `missing_model`, `bad_model`; `model_not_found` (also for a model the caller's key does
 *   not cover: the two must look alike); `no_config`, `no_nodes` and `not_ready` when there is nothing to judge by yet.
 */
export function admit(
  exchange: Exchange,
  route: ForwardRoute,
  caller: Caller,
  bytes: Buffer,
  snapshot: Snapshot,
): Admission {
  const { model, stream } = scanBody(bytes)
  if (!model || model.value.trim() === '') throw new ProxyError('missing_model')
  const asked = canonicalName(model.value)
  if (!asked) throw new ProxyError('bad_model', { model: JSON.stringify(model.value.slice(0, 200)) })
  if (!caller.models.some((glob) => matchesGlob(glob, asked)))
    throw new ProxyError('model_not_found', { model: model.value.slice(0, 400) })
  const { route: rule, model: chosen, isFallback } = resolve(asked, caller.tenant, snapshot)
  if (!chosen) throw absent(model.value, snapshot)
  return {
    ask: {
      id: exchange.id,
      api: route.api,
      model: chosen,
      tenant: caller.tenant,
      nodes: rule?.nodes ?? {},
      arrivedAt: exchange.startedAt,
      tried: new Set(),
    },
    // The original bytes travel on; only the name inside the quotes changes, and only when it has to.
    body: chosen === asked ? bytes : splice(bytes, model.start, model.end, JSON.stringify(chosen)),
    streams: route.streams === 'never' ? false : (stream ?? route.streams === 'unless-off'),
    isFallback,
  }
}

function scanBody(bytes: Buffer): Scanned {
  try {
    return scan(bytes)
  } catch (error) {
    if (error instanceof ScanError) throw new ProxyError('bad_json', { reason: error.message })
    throw error
  }
}

/** Why no model can answer. */
function absent(model: string, snapshot: Snapshot): ProxyError {
  if (snapshot.nodes.size === 0) return new ProxyError(snapshot.revision === '0' ? 'no_config' : 'no_nodes')
  const looked = [...snapshot.nodes.values()].some((node) => node.status !== null)
  return looked
    ? new ProxyError('model_not_found', { model: model.slice(0, 400) })
    : new ProxyError('not_ready')
}

function splice(bytes: Buffer, start: number, end: number, text: string): Buffer {
  return Buffer.concat([bytes.subarray(0, start), Buffer.from(text), bytes.subarray(end)])
}
