import { z } from 'zod'
import { apiKeySchema } from './api-key.ts'
import { type Config, configSchema, routeSchema } from './config.ts'
import { nodeSchema } from './node.ts'

/** The schema of the documents of each folder. */
export const schemas = {
  config: configSchema,
  nodes: nodeSchema,
  routes: routeSchema,
  keys: apiKeySchema,
} as const

/** The config as an operator would write it, with every default: durations are text again. */
export function writtenConfig(config: Config): z.input<typeof configSchema> {
  return z.encode(configSchema, config)
}
