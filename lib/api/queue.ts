import { z } from 'zod'
import type { Endpoints, Wire } from './endpoint.ts'
import { estimateFields, excludedFields } from './estimate.ts'

const waitingFields = {
  id: z.string().describe('id of the request'),
  model: z.string(),
  variant: z.string().describe("load-time options as JSON; empty for the node's own"),
  tenant: z.string(),
  class: z.string().describe('priority class'),
  waited_seconds: z.number(),
  node: z.string().nullable().describe('the planned node; null while there is none'),
  ...estimateFields,
  ...excludedFields,
}
export const waitingAnswer = z.object(waitingFields)
/** A waiting request and its estimate. */
export type WaitingAnswer = Wire<typeof waitingAnswer>

const queueAnswer = z.object({
  instance: z.string(),
  total: z.int().describe('requests that wait in this instance'),
  by_class: z.record(z.string(), z.int()),
  by_tenant: z.record(z.string(), z.int()),
  waiting: z.array(waitingAnswer).describe('the first of these requests, in serving order'),
})
export type QueueAnswer = Wire<typeof queueAnswer>

const waitingDetail = z.object({
  instance: z.string(),
  position: z.int().describe('place in serving order, from 1'),
  ...waitingFields,
  prompt_tokens: z.int().describe('estimated from the body'),
  max_tokens: z.int().nullable().describe('most tokens of the answer; null: the caller set no limit'),
  labels: z.record(z.string(), z.string()).describe('labels that a node must have'),
  failed_on: z.array(z.string()).describe('nodes on which the request has failed'),
})
export type WaitingDetail = Wire<typeof waitingDetail>

const params = { id: 'id of the request' }

export const queueEndpoints = {
  listQueue: {
    method: 'get',
    path: '/admin/v1/queue',
    summary: 'The waiting requests of this instance in serving order, and why each waits.',
    query: z.strictObject({
      limit: z.coerce.number().int().min(1).max(1000).default(100).describe('most rows to return'),
    }),
    answer: { json: queueAnswer },
    errors: ['invalid'],
  },
  readWaiting: {
    method: 'get',
    path: '/admin/v1/queue/:id',
    summary: 'One waiting request and its estimate.',
    params,
    answer: { json: waitingDetail },
    errors: ['not_found'],
  },
  cancelWaiting: {
    method: 'delete',
    path: '/admin/v1/queue/:id',
    summary: 'Removes a waiting request from the queue: its caller gets an error.',
    params,
    statuses: [204],
    answer: null,
    errors: ['not_found'],
  },
} as const satisfies Endpoints
