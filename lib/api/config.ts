import { z } from 'zod'
import { configSchema } from '../fleet/config.ts'
import {
  faultAnswer,
  patchBody,
  rejectedDocument,
  seenHeaders,
  storedFields,
  textFields,
} from './documents.ts'
import type { Endpoints, Wire } from './endpoint.ts'

/** The settings as an operator would write them: durations are text. */
export const effectiveConfig = z.custom<z.input<typeof configSchema>>(
  (value) => configSchema.safeParse(value).success,
)

const configAnswer = z.object({
  effective: effectiveConfig.describe('what is in force, with every default'),
  ...storedFields,
  unknown_keys: z.array(rejectedDocument).describe('keys in the store that no instance reads'),
})
export type ConfigAnswer = Wire<typeof configAnswer>

const configWritten = z.object({ ...textFields, modified: z.string().describe('its new revision') })

const configChanged = z.object({
  before: z.string().describe('the text before the change'),
  text: z.string().describe('the text after it'),
  modified: z.string().nullable().describe('its revision; null: there is no document'),
})

export const configEndpoints = {
  readConfig: {
    method: 'get',
    path: '/admin/v1/config',
    summary: 'The settings of the cluster: what is in force, and the text it comes from.',
    answer: { json: configAnswer },
  },
  writeConfig: {
    method: 'put',
    path: '/admin/v1/config',
    summary: 'Replaces the settings; the caller says which text it has seen.',
    headers: seenHeaders,
    body: { fields: z.strictObject(textFields) },
    answer: { json: configWritten },
    errors: ['invalid', 'conflict'],
  },
  changeConfig: {
    method: 'patch',
    path: '/admin/v1/config',
    summary: 'Changes some settings.',
    query: z.strictObject({
      dry_run: z
        .enum(['true', 'false'])
        .exactOptional()
        .describe('true: answers with the text after the change and writes nothing'),
    }),
    body: { document: patchBody },
    answer: { json: configChanged },
    errors: ['invalid', 'conflict'],
  },
  // For a store that was wiped or emptied on purpose: until then the last good documents stay in force.
  acceptStore: {
    method: 'post',
    path: '/admin/v1/config/accept',
    summary: 'Puts in force what a store says that is suspected of having lost its documents.',
    answer: { json: z.object({ accepted: z.string().describe('why the store was suspect') }) },
    errors: ['conflict'],
  },
  validateDocument: {
    method: 'post',
    path: '/admin/v1/config/validate',
    summary: 'Checks a document without writing it.',
    body: {
      fields: z.strictObject({
        ...textFields,
        folder: z
          .enum(['config', 'nodes', 'routes', 'keys'])
          .default('config')
          .describe('what kind of document it is'),
      }),
    },
    answer: { json: z.object({ ok: z.boolean(), errors: z.array(faultAnswer) }) },
  },
} as const satisfies Endpoints
