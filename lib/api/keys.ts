import { z } from 'zod'
import { apiKeySchema } from '../fleet/api-key.ts'
import { apiKeyOptionsSchema } from '../fleet/caller-options.ts'
import { scopes } from '../fleet/scopes.ts'
import type { Endpoints, Wire } from './endpoint.ts'

const keyAnswer = z.object({
  id: z.string(),
  tenant: z.string(),
  scopes: z.array(z.enum(scopes)),
  models: z.array(z.string()).describe('names or globs of the models that it may use'),
  options: apiKeyOptionsSchema.describe('fields that replace those of "callers" in the config'),
  class: z.string().nullable().describe('priority class of its requests; null: the default'),
  expires: z.string().nullable().describe('date; null: never'),
  warnings: z.array(z.string()).describe('warnings about a key that is in force'),
})
export type KeyAnswer = Wire<typeof keyAnswer>

const keyList = z.object({ keys: z.array(keyAnswer) })

const keyFields = apiKeySchema.omit({ hash: true }).shape

const keyMade = z.object({
  id: z.string(),
  token: z.string().describe('the token, shown only this once; the store holds its hash'),
  ...keyFields,
})

export const keyEndpoints = {
  listKeys: {
    method: 'get',
    path: '/admin/v1/keys',
    summary: 'The API keys, without their tokens.',
    answer: { json: keyList },
  },
  createKey: {
    method: 'post',
    path: '/admin/v1/keys',
    summary: 'Creates an API key.',
    body: {
      fields: z.strictObject({ ...keyFields, id: z.string().describe('name of the key') }),
    },
    statuses: [201],
    answer: { json: keyMade },
    errors: ['conflict'],
  },
  revokeKey: {
    method: 'delete',
    path: '/admin/v1/keys/:id',
    summary: 'Revokes an API key.',
    params: { id: 'name of the key' },
    statuses: [204],
    answer: null,
    errors: ['invalid', 'not_found'],
  },
} as const satisfies Endpoints
