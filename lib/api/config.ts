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

/** The settings in the form that an operator writes: durations are text. */
export const effectiveConfig = z.custom<z.input<typeof configSchema>>(
  (value) => configSchema.safeParse(value).success,
)

const configAnswer = z.object({
  effective: effectiveConfig.describe('what is in force, with every default'),
  ...storedFields,
  unknown_keys: z.array(rejectedDocument).describe('keys in the store that llamero does not know'),
})
export type ConfigAnswer = Wire<typeof configAnswer>

const configWritten = z.object({
  ...textFields,
  modified: z.string().describe('the new revision of the document'),
})

const configChanged = z.object({
  before: z.string().describe('the text before the change'),
  text: z.string().describe('the text after the change'),
  modified: z.string().nullable().describe('revision of the document; null: there is none'),
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
    summary: 'Replaces the settings; If-Match or If-None-Match names the version that the caller has read.',
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
  // For a store that was emptied on purpose: until this call the last good documents stay in force.
  acceptStore: {
    method: 'post',
    path: '/admin/v1/config/accept',
    summary: 'Puts the documents of a suspect store in force: one that looks wiped or emptied.',
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
          .describe('the kind of the document'),
      }),
    },
    answer: { json: z.object({ ok: z.boolean(), errors: z.array(faultAnswer) }) },
  },
} as const satisfies Endpoints
