import { z } from 'zod'
import type { Endpoints } from './endpoint.ts'

/** For load balancers, VIP managers and Prometheus: cheap, open, without a call to the store or a node. */
export const healthEndpoints = {
  readLiveness: {
    method: 'get',
    path: '/livez',
    summary: 'Whether the process answers.',
    access: 'open',
    answer: { text: 'alive' },
  },
  readReadiness: {
    method: 'get',
    path: '/readyz',
    summary: 'Whether this instance should get requests, or requests for one model.',
    access: 'open',
    // A malformed `model` is ignored: a load balancer must not take out an instance for it.
    query: z.object({
      model: z
        .string()
        .optional()
        .catch(undefined)
        .describe('name of a model that a node must be able to serve'),
    }),
    answer: { text: 'ready', no: 'the reason why it is not' },
  },
  readLeadership: {
    method: 'get',
    path: '/leader',
    summary: 'Whether this instance leads the cluster.',
    access: 'open',
    answer: { text: 'leader', no: 'standby' },
  },
  readMetrics: {
    method: 'get',
    path: '/metrics',
    summary: 'Metrics in the text format of Prometheus.',
    access: 'open',
    answer: { text: 'the metrics', type: 'text/plain; version=0.0.4; charset=utf-8' },
  },
} as const satisfies Endpoints
