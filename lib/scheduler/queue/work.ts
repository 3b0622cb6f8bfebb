import { embeds, type RequestSpec } from '../../fleet/request-spec.ts'
import type { SchedulingRequest } from '../events.ts'

/** @param id that the core knows it by; one that is in use stands for what it is in use for. */
export function workOf(ask: RequestSpec, id: string): SchedulingRequest {
  const { promptTokens = 0, maxTokens = null, prefixes = [], streams = false, arrivedAt, api } = ask
  return {
    id,
    model: ask.model,
    variant: ask.variant,
    tenant: ask.tenant,
    class: ask.class,
    promptTokens,
    maxTokens,
    streams,
    embeds: embeds(api),
    prefixes,
    nodes: ask.nodes,
    tried: ask.tried,
    arrivedAt: arrivedAt / 1000,
  }
}

/** As the scheduler was asked for it. */
export function askOf({ embeds, arrivedAt, ...work }: SchedulingRequest): RequestSpec {
  return { ...work, api: embeds ? 'ollama_embed' : 'ollama_chat', arrivedAt: arrivedAt * 1000 }
}
