import type { configEndpoints } from '../../api/config.ts'
import { configSchema } from '../../fleet/config.ts'
import { schemas, writtenConfig } from '../../fleet/document-schemas.ts'
import { readDocument } from '../../fleet/documents/document.ts'
import { ProxyError } from '../../shared/errors.ts'
import { turns } from '../../shared/turns.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import {
  checkDocument,
  patchText,
  type SeenRevision,
  seenBy,
  storedDocument,
  writeDocument,
} from './write-document.ts'

/** All operators share the settings: a writer must have seen the text that the new one replaces. */
const unseen =
  'send the revision that this text replaces: If-Match with its "modified", or If-None-Match: * when there was none'

/** The settings of the whole cluster: reads what is in force and its text, and changes that text. */
export function configHandlers(admin: AdminContext): Handlers<typeof configEndpoints> {
  const { keys, store, cluster, snapshot, log } = admin

  const write = async (text: string, known: SeenRevision | null) => {
    const modified = String(await writeDocument(store, keys.config, text, known))
    log.info('config written', { modified })
    return modified
  }

  return {
    readConfig: () => ({
      effective: writtenConfig(snapshot.get().config),
      ...storedDocument(admin, 'config', ''),
      unknown_keys: cluster
        .rejected()
        .filter(({ key }) => keys.parse(key) === null)
        .map(({ key, verdict }) => ({ key, errors: verdict.errors })),
    }),

    writeConfig: async ({ body: { text }, headers }) => {
      const seen = seenBy(headers)
      if (seen === undefined) throw new ProxyError('bad_request', { reason: unseen })
      await checkDocument(text, configSchema)
      return { text, modified: await write(text, seen) }
    },

    changeConfig: async ({ body, query }) => {
      const existing = await store.get(keys.config)
      const before = existing?.value ?? ''
      const text = patchText(before, body)
      await checkDocument(text, configSchema)
      if (query.dry_run === 'true') return { before, text, modified: existing && String(existing.modified) }
      return { before, text, modified: await write(text, existing) }
    },

    acceptStore: async () => {
      const suspect = cluster.suspect
      if (suspect === null)
        throw new ProxyError('conflict', { reason: 'the store is not suspect: there is nothing to accept' })
      await cluster.acceptEmpty()
      log.warn('store accepted by an operator', { suspect })
      return { accepted: suspect }
    },

    validateDocument: async ({ body: { folder, text } }) => {
      await turns.next()
      const parsed = readDocument(text, schemas[folder])
      return { ok: parsed.ok, errors: parsed.ok ? [] : parsed.faults }
    },
  }
}
