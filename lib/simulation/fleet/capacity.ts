import { decodeSlowdown } from '../ollama-model/decoding.ts'
import { streamPenalty } from '../ollama-model/shared-gpu.ts'
import { type FleetPlan, footprint, type PlannedModel, type PlannedNode } from './fleet-plan.ts'

/** What requests are like on average. */
export interface MeanRequest {
  /** Tokens of the prompt that its conversation did not have before. */
  readonly newTokens: number
  readonly outputTokens: number
}

/**
 * Requests per second that the fleet could serve at most: load 1. Every node works without a pause on one runner with all
 * its slots taken, no model is ever loaded, and every prompt is in a cache as far as it was there before.
 *
 * A request of a model of S bytes then costs a node of speed v: new tokens * S / (prefill * v) plus output
 * tokens * S / (decode * v) * (1 + 0.15 (slots - 1)) / slots. Since both grow with S / v, it does not matter which node
 * serves which model as long as the large ones have room somewhere; the fleet's capacity is the sum of its nodes' over the
 * mean cost.
 *
 * @param speeds true speeds by node
 */
export function capacity(plan: FleetPlan, speeds: ReadonlyMap<string, number>, mean: MeanRequest): number {
  const size = plan.models.reduce((sum, model) => sum + model.share * model.size, 0)
  return plan.nodes.reduce((sum, node) => {
    const { slots } = node
    const prefill = mean.newTokens / plan.prefill
    const decode = ((mean.outputTokens / plan.decode) * decodeSlowdown(slots, streamPenalty)) / slots
    return sum + (speeds.get(node.name) ?? node.speed) / (size * (prefill + decode))
  }, 0)
}

/** Whether a node can hold a model at all. Its disk has only the models that it can hold. */
export function canHold(node: PlannedNode, model: PlannedModel): boolean {
  return footprint(model) <= node.memory
}
