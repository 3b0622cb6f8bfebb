import { z } from 'zod'
import { configEndpoints } from './config.ts'
import { decisionEndpoints } from './decisions.ts'
import type { Endpoints } from './endpoint.ts'
import { healthEndpoints } from './health.ts'
import { instanceEndpoints } from './instances.ts'
import { jobEndpoints } from './jobs.ts'
import { keyEndpoints } from './keys.ts'
import { modelEndpoints } from './models.ts'
import { nodeEndpoints } from './nodes.ts'
import { queueEndpoints } from './queue.ts'
import { routeTestEndpoints } from './route-test.ts'
import { routeEndpoints } from './routes.ts'
import { statusEndpoints } from './status.ts'

export const openApiEndpoints = {
  readOpenApi: {
    method: 'get',
    path: '/admin/v1/openapi.json',
    summary: 'This document.',
    answer: { foreign: z.looseObject({ openapi: z.string() }) },
  },
} as const satisfies Endpoints

/** Every endpoint of the admin listener by operation, in the order in which paths are matched. */
export const endpoints = {
  ...healthEndpoints,
  ...openApiEndpoints,
  ...statusEndpoints,
  ...instanceEndpoints,
  ...nodeEndpoints,
  ...modelEndpoints,
  ...jobEndpoints,
  ...routeTestEndpoints,
  ...routeEndpoints,
  ...configEndpoints,
  ...keyEndpoints,
  ...queueEndpoints,
  ...decisionEndpoints,
} as const satisfies Endpoints
