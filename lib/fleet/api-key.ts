import { hash } from 'node:crypto'
import { z } from 'zod'
import { apiKeyOptionsSchema } from './caller-options.ts'
import { className } from './classes.ts'
import { modelGlob } from './documents/field-schemas.ts'
import { scopes } from './scopes.ts'

const hashRule =
  'must be the SHA-256 of the token in 64 hex digits; "llamero key create NAME" makes a token and writes the document'

/** `R/keys/<id>`: the record of an API key. The token itself is shown once, at creation, and stored nowhere. */
export const apiKeySchema = z.strictObject({
  hash: z
    .string({ error: hashRule })
    .regex(/^[0-9a-f]{64}$/, hashRule)
    .describe('SHA-256 of the token'),
  tenant: z
    .string()
    .min(1)
    .max(100)
    .default('default')
    .describe('owner of the key; tenants share the nodes fairly'),
  scopes: z
    .array(z.enum(scopes))
    .min(1)
    .default(['inference'])
    .describe('inference: send requests to models; admin: change models, and use the admin API'),
  models: z
    .array(modelGlob)
    .min(1)
    .default(['*'])
    .describe('models that it may use: names (without a tag they mean "latest"), or globs such as "qwen3*"'),
  options: apiKeyOptionsSchema
    .exactOptional()
    .describe('fields that replace those of "callers" in the config'),
  class: className.exactOptional().describe('priority class of its requests, unless a route sets another'),
  expires: z.iso
    .datetime({ offset: true })
    .optional()
    .describe('date and time from which it is refused; without it: never'),
})
export type ApiKey = z.output<typeof apiKeySchema>

/** How a token is stored and looked up: only ever by its hash, never by its text. */
export function hashToken(token: string): string {
  return hash('sha256', token, 'hex')
}
