import { z } from 'zod'
import { jobActions, jobStates } from '../fleet/job.ts'
import { withNodeChoice } from '../fleet/node-choice.ts'
import type { Endpoints, Wire } from './endpoint.ts'

const jobState = z.enum(jobStates)

export const jobAnswer = z.object({
  id: z.string(),
  action: z.enum(jobActions),
  model: z.string().describe('the model of the job; for a copy, its source'),
  state: jobState,
  created: z.string().describe('date'),
  ended: z.string().nullable().describe('date; null until it ended'),
  tenant: z.string().describe('tenant of the caller; "operator" for jobs of this API'),
  nodes: z
    .record(
      z.string(),
      z.object({
        state: jobState,
        status: z.string().describe('the last status line of Ollama there'),
        completed: z.int().describe('bytes of all layers known so far'),
        total: z.int().describe('bytes of all layers known so far'),
        error: z.string().nullable().describe('why it failed, or what it waits for'),
      }),
    )
    .describe('by name of the node'),
})
export type JobAnswer = Wire<typeof jobAnswer>

const jobList = z.object({ jobs: z.array(jobAnswer) })
export type JobList = Wire<typeof jobList>

const jobMade = z.object({ job: z.string().describe('id of the job') })

const params = { id: 'id of the job' }

/** An endpoint that creates a job, which goes on without its caller. */
const order = <Action extends string, Fields extends z.ZodRawShape>(
  action: Action,
  summary: string,
  fields: Fields,
) =>
  ({
    method: 'post',
    path: `/admin/v1/models/${action}`,
    summary,
    body: { fields: withNodeChoice(fields) },
    statuses: [202],
    answer: { json: jobMade },
    errors: [
      'missing_model',
      'bad_model',
      'forbidden',
      'model_not_found',
      'source_not_found',
      'job_too_large',
      'no_place',
      'no_nodes',
      'no_leader',
      'store_unavailable',
    ],
  }) as const

const model = z.string().describe('name of the model')

export const jobEndpoints = {
  listJobs: {
    method: 'get',
    path: '/admin/v1/jobs',
    summary: 'The model jobs, running and recently ended, the newest first.',
    answer: { json: jobList },
  },
  readJob: {
    method: 'get',
    path: '/admin/v1/jobs/:id',
    summary: 'One model job, with its progress on each node.',
    params,
    answer: { json: jobAnswer },
    errors: ['not_found'],
  },
  cancelJob: {
    method: 'delete',
    path: '/admin/v1/jobs/:id',
    summary: 'Cancels a job; what nodes have done by then stays.',
    params,
    statuses: [202],
    answer: { json: jobMade },
    errors: ['not_found', 'store_unavailable'],
  },
  pullModel: order('pull', 'Pulls a model to nodes.', { model }),
  deleteModel: order('delete', 'Deletes a model from nodes.', { model }),
  unloadModel: order('unload', 'Unloads a model from the memory of nodes.', { model }),
  copyModel: order('copy', 'Copies a model on each node that has it.', {
    model,
    destination: z.string().describe('name of the copy'),
  }),
  loadModel: order('load', 'Loads a model into the memory of nodes.', {
    model,
    num_ctx: z.int().min(1).optional().describe('tokens of context that the model is loaded with'),
  }),
} as const satisfies Endpoints
