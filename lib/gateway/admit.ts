import type { Api, Ask } from '../fleet/ask.ts'
import { isCloudName } from '../fleet/names.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import { ProxyError } from '../shared/errors.ts'
import { adjust, namesFor } from './adjust.ts'
import type { Caller } from './authenticate.ts'
import { chooseModel } from './choose.ts'
import { applyEdits } from './edit.ts'
import type { Exchange } from './exchange.ts'
import { ScanError } from './json-walk.ts'
import { contextRule } from './resolve.ts'
import type { Spelling } from './respell.ts'
import type { ForwardRoute } from './routes.ts'
import { type FieldNames, type Scanned, scan } from './scan.ts'

/** A request that may come in: what the scheduler is asked for, and the bytes a node will get. */
export interface Admission {
  readonly ask: Ask
  readonly body: Buffer
  /** The answer begins with its first token, not when all is done. */
  readonly streams: boolean
  /** The model asked for was replaced because no node can serve it now. */
  readonly isFallback: boolean
  /** How the answers name the model, where a route's name for it is not the caller's. A fallback goes by its own. */
  readonly spelling: Spelling | null
  /** See `Adjustment`. */
  readonly adjusted: readonly string[]
}

/**
 * Decides whether a request may come in, for which model, and with which options.
 *
 * @throws ProxyError `bad_json`, `missing_model`, `cloud_refused`, and those of `chooseModel` and `adjust`.
 */
export function admit(
  exchange: Exchange,
  route: ForwardRoute,
  caller: Caller,
  bytes: Buffer,
  snapshot: Snapshot,
): Admission {
  const scanned = scanBody(bytes, namesFor(route.api))
  const { model, stream } = scanned
  if (!model) throw new ProxyError('missing_model')
  const callers = { ...snapshot.config.callers, ...caller.options }
  if (callers.cloud === 'refuse' && isCloudName(model.value))
    throw new ProxyError('cloud_refused', { model: model.value.slice(0, 400) })
  const {
    asked,
    model: chosen,
    rule,
    isFallback,
  } = inWordsOf(route.api, () => chooseModel(model.value, caller, snapshot))
  const { edits, adjusted, variant } = adjust(bytes, scanned, route.api, {
    callers,
    isAdmin: caller.mayManage,
    numCtx: contextRule(chosen, rule, snapshot),
  })
  const renamed = { start: model.start, end: model.end, text: JSON.stringify(chosen) }
  return {
    ask: {
      id: exchange.id,
      api: route.api,
      model: chosen,
      variant,
      tenant: caller.tenant,
      nodes: rule?.nodes ?? {},
      arrivedAt: exchange.startedAt,
      tried: new Set(),
    },
    // The original bytes travel on, but for what has to change.
    body: applyEdits(bytes, chosen === asked ? edits : [...edits, renamed]),
    streams: route.streams === 'never' ? false : (stream ?? route.streams === 'unless-off'),
    isFallback,
    spelling: chosen === asked || isFallback ? null : { node: chosen, caller: model.value },
    adjusted,
  }
}

/** Embedding has other words for a model that is absent (sheet ollama-api.md §1.5). */
function inWordsOf<T>(api: Api, choose: () => T): T {
  try {
    return choose()
  } catch (error) {
    if (!(error instanceof ProxyError) || error.code !== 'model_not_found' || !/embed/.test(api)) throw error
    throw new ProxyError('model_not_pulled', error.facts)
  }
}

/** See `scan`. @throws ProxyError `bad_json`. */
export function scanBody(bytes: Buffer, names: readonly [FieldNames?, FieldNames?] = []): Scanned {
  try {
    return scan(bytes, ...names)
  } catch (error) {
    if (error instanceof ScanError) throw new ProxyError('bad_json', { reason: error.message })
    throw error
  }
}
