import type { Api, Ask } from '../fleet/ask.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Caller } from './authenticate.ts'
import { type Choice, chooseModel } from './choose.ts'
import type { Exchange } from './exchange.ts'
import { FormReader } from './form.ts'
import type { Spelling } from './respell.ts'
import type { ForwardRoute } from './routes.ts'
import { ScanError, type Scanned, scan } from './scan.ts'
import type { Payload, Upload } from './upload.ts'

/** A request that may come in: what the scheduler is asked for, and the bytes a node will get. */
export interface Admission {
  readonly ask: Ask
  readonly body: Payload
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
  const choice = chooseModel(model.value, caller, snapshot)
  const { asked, model: chosen, isFallback } = choice
  return {
    ask: askFor(exchange, route.api, caller, choice),
    // The original bytes travel on; only the name inside the quotes changes, and only when it has to.
    body: chosen === asked ? bytes : splice(bytes, model.start, model.end, JSON.stringify(chosen)),
    streams: route.streams === 'never' ? false : (stream ?? route.streams === 'unless-off'),
    isFallback,
    spelling: chosen === asked || isFallback ? null : { node: chosen, caller: model.value },
  }
}

/**
 * `admit` for a form whose fields come one after the other: the rest of it is read while it is sent.
 *
 * @throws ProxyError `bad_form`, `unsupported_encoding`, those of reading an upload and of `chooseModel`.
 */
export async function admitForm(
  exchange: Exchange,
  route: ForwardRoute,
  caller: Caller,
  body: Upload,
  snapshot: Snapshot,
): Promise<Admission> {
  const form = new FormReader(exchange.request.headers['content-type'], 'model')
  const model = await body.readUntil((bytes) => form.find(bytes))
  if (!model) throw new ProxyError('bad_form', { reason: 'it ends before its last boundary' })
  const choice = chooseModel(model.value, caller, snapshot)
  const { asked, model: chosen, isFallback } = choice
  if (chosen !== asked) body.replace(model.start, model.end, chosen)
  return {
    ask: askFor(exchange, route.api, caller, choice),
    body,
    streams: false,
    isFallback,
    spelling: null,
  }
}

function askFor({ id, startedAt }: Exchange, api: Api, { tenant }: Caller, { model, rule }: Choice): Ask {
  return { id, api, model, tenant, nodes: rule?.nodes ?? {}, arrivedAt: startedAt, tried: new Set() }
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
