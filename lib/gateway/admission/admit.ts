import { canonicalName } from '../../fleet/documents/names.ts'
import { type Api, embeds, type RequestSpec } from '../../fleet/request-spec.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import { applyEdits, type Edit, editsOf } from '../body/json-edit.ts'
import type { Scanned } from '../body/json-fields.ts'
import type { ModelRename } from '../body/rename-model.ts'
import type { RequestBody } from '../body/streaming-body.ts'
import type { Caller } from '../http/authenticate.ts'
import type { Exchange } from '../http/exchange.ts'
import type { ForwardEndpoint } from '../http/find-endpoint.ts'
import { capabilityFor, modelWith, unableNodes } from './capable-models.ts'
import { prefixesOf, promptTokens, sessionOf } from './conversation.ts'
import { callerPolicyOf, chooseModel, type ModelChoice } from './model-routing.ts'
import { adjustOptions } from './request-options.ts'
import { contextSettingOf } from './resolve-model.ts'

const noNodes: ReadonlySet<string> = new Set()

/** An admitted request: what the scheduler gets, and the bytes that a node gets. */
export interface AdmittedRequest {
  readonly spec: RequestSpec
  readonly body: RequestBody
  /** A fallback model was chosen because no node can serve the requested one now. */
  readonly isFallback: boolean
  /** How responses name the model, when a route gave it another name. A fallback model keeps its own name. */
  readonly rename: ModelRename | null
  /** See `Adjustment`. */
  readonly adjusted: readonly string[]
  /** Set when the request only unloads a model: its canonical name, and the name as the caller wrote it. */
  readonly unloads: { readonly model: string; readonly written: string } | null
}

/** A body, and the positions of the fields of `namesFor`. */
export interface ScannedBody {
  readonly bytes: Buffer
  readonly scanned: Scanned
}

/**
 * Decides whether a request is admitted, for which model, and with which options.
 *
 * @throws ProxyError `missing_model`, and those of `chooseModel` and `adjustOptions`.
 */
export function admit(
  exchange: Exchange,
  endpoint: ForwardEndpoint,
  caller: Caller,
  { bytes, scanned }: ScannedBody,
  snapshot: Snapshot,
): AdmittedRequest {
  const { model, stream } = scanned
  const capability = capabilityFor(endpoint.api)
  if (!model && capability === undefined) throw new ProxyError('missing_model')
  const name = model?.value ?? modelWith(capability ?? '', caller, snapshot)
  const choice = inWordsOf(endpoint.api, () => chooseModel(name, caller, snapshot))
  const { asked, model: chosen, route, isFallback } = choice
  const unable = unableNodes(endpoint.api, chosen, snapshot)
  const { edits, adjusted, variant, maxTokens, unloads } = adjustOptions(bytes, scanned, endpoint.api, {
    callers: callerPolicyOf(caller, snapshot),
    isAdmin: caller.mayManage,
    numCtx: contextSettingOf(chosen, route, snapshot),
    model: chosen,
  })
  const session = sessionOf(exchange.request.headers)
  const origin = { tenant: caller.tenant, model: chosen, session }
  const prefixes = embeds(endpoint.api) ? [] : prefixesOf(bytes, scanned.prompt, origin)
  return {
    spec: {
      ...specFor(exchange, endpoint.api, caller, choice, variant),
      tried: unable,
      // The longest prefix is the whole prompt.
      promptTokens: prefixes.at(-1)?.tokens ?? promptTokens(scanned.prompt),
      maxTokens,
      prefixes,
      streams: endpoint.streams === 'never' ? false : (stream ?? endpoint.streams === 'unless-off'),
    },
    // The original bytes are sent, except for the edits.
    body: applyEdits(
      bytes,
      !model || chosen === asked ? edits : [...edits, ...named(bytes, scanned, chosen)],
    ),
    isFallback,
    rename: !model || chosen === asked || isFallback ? null : { node: chosen, caller: name },
    adjusted: model ? adjusted : [`model=${chosen}`, ...adjusted],
    unloads: unloads ? { model: namedBy(choice), written: name } : null,
  }
}

/** The model that the name stands for, even when a fallback would answer. */
function namedBy({ asked, model, route, isFallback }: ModelChoice): string {
  if (!isFallback) return model
  return route?.model ? (canonicalName(route.model) ?? route.model) : asked
}

function named(bytes: Buffer, body: Scanned, model: string): Edit[] {
  return editsOf(bytes, body, { set: new Map([['model', JSON.stringify(model)]]) })
}

/** Embedding endpoints have another text for an absent model (docs/ollama.md#answers). */
function inWordsOf<T>(api: Api, choose: () => T): T {
  try {
    return choose()
  } catch (error) {
    if (!(error instanceof ProxyError) || error.code !== 'model_not_found' || !embeds(api)) throw error
    throw new ProxyError('model_not_pulled', error.facts)
  }
}

export function specFor(
  { id, startedAt }: Exchange,
  api: Api,
  { tenant }: Caller,
  { model, route, class: named }: ModelChoice,
  variant: string,
): RequestSpec {
  const labels = route?.nodes ?? {}
  return { id, api, model, variant, tenant, class: named, labels, arrivedAt: startedAt, tried: noNodes }
}
