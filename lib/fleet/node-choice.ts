import { z } from 'zod'
import { copies, labels } from './documents/field-schemas.ts'

const wishFields = {
  copies: copies.optional().describe('how many nodes get the model'),
  nodes: z.array(z.string()).min(1).max(1000).optional().describe('names of the nodes'),
  labels: labels.optional().describe('labels that a node needs to be chosen'),
}

/**
 * The fields of a request for a model job: `others`, and the nodes for it. The policy of the cluster decides what is left out.
 */
export function withNodeChoice<Shape extends z.ZodRawShape>(others: Shape) {
  return z
    .strictObject({ ...others, ...wishFields })
    .refine(
      (fields) => isOneChoice(fields),
      '"copies" and "labels" cannot be given together with "nodes": leave them out',
    )
}

export const nodeChoiceSchema = withNodeChoice({})
export type NodeChoice = z.output<typeof nodeChoiceSchema>

/** The nodes are either named or chosen. */
function isOneChoice(fields: object): boolean {
  const { nodes, copies, labels }: NodeChoice = fields
  return !nodes || (copies === undefined && !labels)
}
