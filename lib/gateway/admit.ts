import type { Api, Ask } from '../fleet/ask.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Caller } from './authenticate.ts'
import { chooseModel } from './choose.ts'
import type { Exchange } from './exchange.ts'
import type { Spelling } from './respell.ts'
import type { ForwardRoute } from './routes.ts'
import { ScanError, type Scanned, scan } from './scan.ts'

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
}

/**
 * Decides whether a request may come in, and for which model.
 *
 * @throws ProxyError `bad_json`, and those of `chooseModel`.
 */
export function admit(
  exchange: Exchange,
  route: ForwardRoute,
  caller: Caller,
  bytes: Buffer,
  snapshot: Snapshot,
): Admission {
  const { model, stream } = scanBody(bytes)
  if (!model) throw new ProxyError('missing_model')
  const {
    asked,
    model: chosen,
    rule,
    isFallback,
  } = inWordsOf(route.api, () => chooseModel(model.value, caller, snapshot))
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
    spelling: chosen === asked || isFallback ? null : { node: chosen, caller: model.value },
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
export function scanBody(bytes: Buffer): Scanned {
  try {
    return scan(bytes)
  } catch (error) {
    if (error instanceof ScanError) throw new ProxyError('bad_json', { reason: error.message })
    throw error
  }
}

function splice(bytes: Buffer, start: number, end: number, text: string): Buffer {
  return Buffer.concat([bytes.subarray(0, start), Buffer.from(text), bytes.subarray(end)])
}
