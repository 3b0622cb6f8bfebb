import { embeds, type RequestSpec } from '../../fleet/request-spec.ts'
import type { SchedulingRequest } from '../events.ts'

/** @param id that the core knows it by; one that is in use stands for what it is in use for. */
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
    nodes: spec.nodes,
    tried: spec.tried,
    arrivedAt: arrivedAt / 1000,
  }
}

/** As the scheduler was asked for it. */
export function requestSpecOf({ embeds, arrivedAt, ...request }: SchedulingRequest): RequestSpec {
  return { ...request, api: embeds ? 'ollama_embed' : 'ollama_chat', arrivedAt: arrivedAt * 1000 }
}
