import { randomBytes } from 'node:crypto'
import type { keyEndpoints } from '../../api/keys.ts'
import { hashToken } from '../../fleet/api-key.ts'
import { tokenPrefix } from '../../gateway/http/authenticate.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import { checkName, writeDocument } from './write-document.ts'

/** API keys. A token is shown once, in the answer that creates it; the store holds its hash. */
export function keyHandlers(admin: AdminContext): Handlers<typeof keyEndpoints> {
  return {
    listKeys: () => {
      const keys = [...admin.snapshot.get().keys.values()].map((key) => {
        const { id, tenant, scopes, models, options = {}, expires = null } = key
        const warnings = admin.cluster.view.warnings(admin.keys.apiKey(id))
        return { id, tenant, scopes, models, options, class: key.class ?? null, expires, warnings }
      })
      return { keys }
    },

    createKey: async ({ body: { id, ...rest } }) => {
      const key = admin.keys.apiKey(checkName('key', id))
      if (await admin.store.get(key))
        throw new ProxyError('conflict', {
          reason: `key "${id}" exists already; choose another name, or revoke it first: llamero key revoke ${id}`,
        })
      const token = `${tokenPrefix}${randomBytes(32).toString('base64url')}`
      const text = `${JSON.stringify({ hash: hashToken(token), ...rest }, null, 2)}\n`
      await writeDocument(admin.store, key, text, null)
      admin.log.info('key created', { key: id, tenant: rest.tenant })
      return { id, token, ...rest }
    },

    revokeKey: async ({ params }) => {
      const id = checkName('key', params.id)
      const existing = await admin.store.get(admin.keys.apiKey(id))
      if (!existing) throw new ProxyError('not_found', { kind: 'key', name: id })
      await admin.store.commit({ when: [], apply: [{ type: 'delete', key: existing.key }] })
      admin.log.info('key revoked', { key: id })
    },
  }
}
