import type Router from '@koa/router'
import type { Context } from 'koa'
import { z } from 'zod'
import { configSchema } from '../fleet/config.ts'
import { describeFaults } from '../fleet/contents.ts'
import { readDocument, readValue } from '../fleet/document.ts'
import { schemas, writtenConfig } from '../fleet/kinds.ts'
import { ProxyError } from '../shared/errors.ts'
import { type AdminContext, apiVersion } from './context.ts'
import { bodyOf, checkDocument, patchText, seenBy, storedDocument, writeDocument } from './documents.ts'

const textSchema = z.strictObject({ text: z.string() })
const trialSchema = textSchema.extend({
  folder: z.enum(['config', 'nodes', 'routes', 'keys']).default('config'),
})

/** Nobody overwrites the settings of everybody unread. */
const unseen = 'say what you have seen: If-Match with its "modified", or If-None-Match: * when there was none'

/** The settings of the whole cluster: what is in force, the text it comes from, and changes to that text. */
export function configRoutes(router: Router, admin: AdminContext): void {
  const { keys, store, cluster, snapshot, log } = admin

  router.get('/admin/v1/config', (context) => {
    const effective = writtenConfig(snapshot.get().config)
    const unknown_keys = cluster
      .rejected()
      .filter(({ key }) => keys.parse(key) === null)
      .map(({ key, verdict }) => ({ key, errors: verdict.errors }))
    context.body = { apiVersion, effective, ...storedDocument(admin, 'config', ''), unknown_keys }
  })

  router.put('/admin/v1/config', async (context) => {
    const { text } = read(context, textSchema)
    const seen = seenBy(context)
    if (seen === undefined) throw new ProxyError('bad_request', { reason: unseen })
    checkDocument(text, configSchema)
    const modified = String(await writeDocument(store, keys.config, text, seen))
    log.info('config written', { modified })
    context.body = { apiVersion, text, modified }
  })

  router.patch('/admin/v1/config', async (context) => {
    const existing = await store.get(keys.config)
    const before = existing?.value ?? ''
    const text = patchText(before, bodyOf(context))
    checkDocument(text, configSchema)
    if (context.query['dry_run'] === 'true') {
      context.body = { apiVersion, before, text, modified: existing && String(existing.modified) }
      return
    }
    const modified = String(await writeDocument(store, keys.config, text, existing))
    log.info('config written', { modified })
    context.body = { apiVersion, before, text, modified }
  })

  // For a store that was wiped or emptied on purpose: until then the last good documents stay in force.
  router.post('/admin/v1/config/accept', async (context) => {
    const suspect = cluster.suspect
    if (suspect === null)
      throw new ProxyError('conflict', { reason: 'the store is believed: nothing to accept' })
    await cluster.acceptEmpty()
    log.warn('store accepted by an operator', { suspect })
    context.body = { apiVersion, accepted: suspect }
  })

  router.post('/admin/v1/config/validate', (context) => {
    const { folder, text } = read(context, trialSchema)
    const parsed = readDocument(text, schemas[folder])
    context.body = { apiVersion, ok: parsed.ok, errors: parsed.ok ? [] : parsed.faults }
  })
}

function read<S extends z.ZodType>(context: Context, schema: S): z.output<S> {
  const body = readValue(bodyOf(context), schema)
  if (!body.ok) throw new ProxyError('bad_request', { reason: describeFaults(body.faults) })
  return body.value
}
