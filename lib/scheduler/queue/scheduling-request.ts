import { embeds, type RequestSpec } from '../../fleet/request-spec.ts'
import type { SchedulingRequest } from '../events.ts'

/** @param id of the request in the core; an id in use means the queued or running request. */
export function schedulingRequestOf(spec: RequestSpec, id: string): SchedulingRequest {
  const { promptTokens = 0, maxTokens = null, prefixes = [], streams = false, arrivedAt, api } = spec
  return {
    id,
    model: spec.model,
    variant: spec.variant,
    tenant: spec.tenant,
    class: spec.class,
    promptTokens,
    maxTokens,
    streams,
    embeds: embeds(api),
    prefixes,
    labels: spec.labels,
    tried: spec.tried,
    arrivedAt: arrivedAt / 1000,
  }
}

/** The request as `acquire` got it. */
export function requestSpecOf({ embeds, arrivedAt, ...request }: SchedulingRequest): RequestSpec {
  return { ...request, api: embeds ? 'ollama_embed' : 'ollama_chat', arrivedAt: arrivedAt * 1000 }
}
