import { embeds, type RequestSpec } from '../../fleet/request-spec.ts'
import { ProxyError } from '../../shared/errors.ts'
import { isForeign } from '../response/not-ollama.ts'
import type { UpstreamFailure } from '../response/outcome.ts'
import { assessFailure, isRunnerLost, textOf } from './failure-policy.ts'

/**
 * When a runner dies while it embeds, Ollama responds 400 with the address of the runner, as if the request were
 * wrong (`EmbedHandler` in server/routes.go). This makes the error that the caller gets instead; null for any other
 * failure.
 */
export function embeddingFault(
  failure: UpstreamFailure,
  spec: Pick<RequestSpec, 'api' | 'model' | 'variant'>,
  retryAfterS: number | null,
): ProxyError | null {
  if (failure.kind !== 'refused' || !embeds(spec.api) || isForeign(failure)) return null
  const said = textOf(failure.body)
  const isToldWrong = failure.status === 400 || isRunnerLost(said)
  if (!isToldWrong || !assessFailure(failure, spec).elsewhere) return null
  const reason = isRunnerLost(said)
    ? `its runner of model '${spec.model}' stopped while it computed the embedding; send the request again`
    : said
  const facts = { reason, ...(retryAfterS !== null && { retryAfter: retryAfterS }) }
  return new ProxyError('node_failed', facts, { cause: new Error(said) })
}

/** The text of a runner of a chat model, which reads as if llamero needed another setting. */
const noEmbeddings = /This server does not support embeddings[^"\\]*/

/** The same failure with the name of the model, where the node's text names nothing that the caller knows. */
export function namingModel(
  failure: UpstreamFailure,
  { api: client, model }: Pick<RequestSpec, 'api' | 'model'>,
): UpstreamFailure {
  if (failure.kind !== 'refused' || !embeds(client)) return failure
  const text = failure.body.toString('utf8')
  const named = text.replace(
    noEmbeddings,
    (said) => `model '${model}' does not support embeddings; its runner says: ${said}`,
  )
  return named === text ? failure : { ...failure, body: Buffer.from(named) }
}
