import type { Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import { FormReader } from '../body/multipart.ts'
import type { StreamingBody } from '../body/streaming-body.ts'
import type { Caller } from '../http/authenticate.ts'
import type { Exchange } from '../http/exchange.ts'
import type { ForwardEndpoint } from '../http/find-endpoint.ts'
import { type AdmittedRequest, specFor } from './admit.ts'
import { chooseModel } from './model-routing.ts'

/** A form has no options. */
const noVariant = ''
/**
 * Bytes of a form that are read before it waits for a slot: a little more than Ollama keeps in memory
 * (middleware/openai.go).
 */
const formBytes = 32 * 1024 * 1024

/**
 * `admit` for a form, in which one field follows another. It is read to its end first, since a slot that waits for a
 * caller serves no other request; the rest of a very large form is read while it is sent.
 *
 * @throws ProxyError `bad_form`, `unsupported_encoding`, `no_audio`, those of reading an upload and of `chooseModel`.
 */
export async function admitForm(
  exchange: Exchange,
  endpoint: ForwardEndpoint,
  caller: Caller,
  body: StreamingBody,
  snapshot: Snapshot,
): Promise<AdmittedRequest> {
  const form = new FormReader(exchange.request.headers['content-type'], 'model')
  const model = await body.readUntil((bytes) => form.find(bytes))
  if (!model) throw new ProxyError('bad_form', { reason: 'it ends before its last boundary' })
  const choice = chooseModel(model.value, caller, snapshot)
  const { asked, model: chosen, isFallback } = choice
  const { capabilities } = snapshot.models.get(chosen)?.newest ?? {}
  if (capabilities && !capabilities.includes('audio')) throw new ProxyError('no_audio', { model: chosen })
  if (chosen !== asked) body.replace(model.start, model.end, chosen)
  await body.readAhead(Math.min(formBytes, snapshot.config.limits.body_bytes))
  return {
    spec: specFor(exchange, endpoint.api, caller, choice, noVariant),
    body,
    isFallback,
    rename: null,
    adjusted: [],
    unloads: null,
  }
}
