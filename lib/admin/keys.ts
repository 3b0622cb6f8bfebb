import { randomBytes } from 'node:crypto'
import type Router from '@koa/router'
import { z } from 'zod'
import { apiKeySchema, hashToken } from '../fleet/api-key.ts'
import { describeFaults } from '../fleet/contents.ts'
import { readValue } from '../fleet/document.ts'
import { tokenPrefix } from '../gateway/authenticate.ts'
import { ProxyError } from '../shared/errors.ts'
import { type AdminContext, apiVersion } from './context.ts'
import { checkName, writeDocument } from './documents.ts'

const orderSchema = apiKeySchema.omit({ hash: true }).extend({ id: z.string() })

/** API keys. A token is shown once, in the answer that creates it; the store holds its hash. */
export function keyRoutes(router: Router, admin: AdminContext): void {
  router.get('/admin/v1/keys', (context) => {
    const keys = [...admin.snapshot.get().keys.values()].map((key) => {
      const { id, tenant, scopes, models, options = {}, expires = null } = key
      const warnings = admin.cluster.directory.warnings(admin.keys.apiKey(id))
      return { id, tenant, scopes, models, options, class: key.class ?? null, expires, warnings }
    })
    context.body = { apiVersion, keys }
  })

  router.post('/admin/v1/keys', async (context) => {
    const order = readValue(context.request.body, orderSchema)
    if (!order.ok) throw new ProxyError('invalid', { reason: describeFaults(order.faults) })
    const { id, ...rest } = order.value
    const key = admin.keys.apiKey(checkName('key', id))
    if (await admin.store.get(key)) throw new ProxyError('conflict', { reason: `key "${id}" exists already` })
    const token = `${tokenPrefix}${randomBytes(32).toString('base64url')}`
    await writeDocument(
      admin.store,
      key,
      `${JSON.stringify({ hash: hashToken(token), ...rest }, null, 2)}\n`,
      null,
    )
    admin.log.info('key created', { key: id, tenant: rest.tenant })
    context.status = 201
    context.body = { apiVersion, id, token, ...rest }
  })

  router.delete('/admin/v1/keys/:id', async (context) => {
    const id = checkName('key', context.params['id'] ?? '')
    const existing = await admin.store.get(admin.keys.apiKey(id))
    if (!existing) throw new ProxyError('not_found', { kind: 'key', name: id })
    await admin.store.commit({ when: [], apply: [{ type: 'delete', key: existing.key }] })
    admin.log.info('key revoked', { key: id })
    context.status = 204
  })
}
