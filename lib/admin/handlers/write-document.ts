import type { IncomingHttpHeaders } from 'node:http'
import type { Document } from 'yaml'
import type { z } from 'zod'
import type { StoredAnswer } from '../../api/documents.ts'
import { describeFaults, refusal } from '../../fleet/documents/contents.ts'
import { readDocument } from '../../fleet/documents/document.ts'
import { excess, refusedUnread } from '../../fleet/documents/document-text.ts'
import { parseJson } from '../../fleet/documents/json-document.ts'
import { isStoreName, storeNameRule } from '../../fleet/documents/names.ts'
import { parseYaml } from '../../fleet/documents/yaml-document.ts'
import { ProxyError } from '../../shared/errors.ts'
import { turns } from '../../shared/turns.ts'
import type { Store } from '../../store/store.ts'
import type { AdminContext } from '../admin-context.ts'

/** Fields to set in a document; null removes one. Labels and other maps are merged, everything else is replaced. */
export type Patch = Readonly<Record<string, unknown>>

/** @throws ProxyError `invalid` when the name cannot be part of a key. */
export function checkName(kind: string, name: string): string {
  if (!isStoreName(name))
    throw new ProxyError('invalid', { reason: `${kind} name "${name.slice(0, 80)}": ${storeNameRule}` })
  return name
}

/** Fields and items of a change. More would not fit into YAML that can be read again. */
const maxPatchValues = 1000
const refusedPatch = refusal(
  `the change has more than ${maxPatchValues} fields and items: replace the whole document (llamero config apply -f FILE)`,
)

/**
 * Checks a document's text, in a turn of the event loop of its own: the caller has read a body or changed a text before.
 *
 * @throws ProxyError `invalid` naming every faulty field.
 */
export async function checkDocument<S extends z.ZodType>(text: string, schema: S): Promise<z.output<S>> {
  await turns.next()
  const parsed = readDocument(text, schema)
  if (!parsed.ok) throw new ProxyError('invalid', { reason: describeFaults(parsed.faults) })
  return parsed.value
}

/**
 * The text with the patch applied; the operator's comments and order of fields survive.
 *
 * @throws ProxyError `invalid` when the stored text has no fields to change; any client of etcd may have written it.
 */
export function patchText(text: string, patch: Patch): string {
  const excessive = refusedUnread(text)
  if (excessive) throw new ProxyError('invalid', { reason: describeFaults(excessive) })
  const document = excess(patch, { values: maxPatchValues }) === null ? parseYaml(text) : refusedPatch
  if (!('contents' in document)) {
    const json = parseJson(text)
    const reason = json === undefined ? describeFaults(document) : excess(json)
    // Too large for the YAML package, which would keep its layout.
    if (reason === null) return `${JSON.stringify(patched(json, patch), null, 2)}\n`
    throw new ProxyError('invalid', { reason })
  }
  try {
    change(document, [], patch)
    return String(document)
  } catch (cause) {
    const reason =
      'the stored text has no such fields to change: replace the whole document (llamero config apply -f FILE)'
    throw new ProxyError('invalid', { reason }, { cause })
  }
}

function patched(value: unknown, patch: unknown): unknown {
  if (!isPlain(patch)) return patch
  const fields = new Map(isPlain(value) ? Object.entries(value) : [])
  for (const [field, inner] of Object.entries(patch)) {
    if (inner === null) fields.delete(field)
    else fields.set(field, patched(fields.get(field), inner))
  }
  return Object.fromEntries(fields)
}

function change(document: Document, path: readonly string[], value: unknown): void {
  if (isPlain(value)) {
    for (const [field, inner] of Object.entries(value)) change(document, [...path, field], inner)
  } else if (value !== null) document.setIn(path, value)
  else if (document.hasIn(path)) document.deleteIn(path)
}

/** The body as a document, or the text in `{"text": "..."}`, which keeps its comments. */
export function textOf(body: Readonly<Record<string, unknown>>): string {
  const { text, ...rest } = body
  if (typeof text === 'string' && Object.keys(rest).length === 0) return text
  return `${JSON.stringify(body, null, 2)}\n`
}

/** An operator's document as it is stored, and the verdict on it. */
export function storedDocument(
  { cluster, keys }: AdminContext,
  folder: 'config' | 'routes',
  name: string,
): StoredAnswer {
  const key = folder === 'config' ? keys.config : keys.route(name)
  const stored = cluster.view.documents(folder).get(name)
  const errors = cluster.rejected().find((each) => each.key === key)?.verdict.errors ?? []
  return {
    text: stored?.text ?? null,
    modified: stored ? String(stored.modified) : null,
    ok: errors.length === 0,
    errors,
    warnings: cluster.view.warnings(key),
  }
}

/** The revision of a text that the caller has seen. */
export interface SeenRevision {
  readonly modified: bigint
}

/**
 * The version that the caller changes: the revision in `If-Match`, null (no document) by `If-None-Match: *`, or undefined
 * without either header.
 */
export function seenBy(headers: IncomingHttpHeaders): SeenRevision | null | undefined {
  const [, modified] = /^"?(\d{1,19})"?$/.exec(headers['if-match'] ?? '') ?? []
  if (modified !== undefined) return { modified: BigInt(modified) }
  return headers['if-none-match'] === '*' ? null : undefined
}

/**
 * Writes a document unless it has changed since `known` was read; null: there was none.
 *
 * @returns its new revision.
 * @throws ProxyError `conflict`.
 */
export async function writeDocument(
  store: Store,
  key: string,
  value: string,
  known: SeenRevision | null,
): Promise<bigint> {
  const when = known ? { key, modified: known.modified } : { key, created: 0n }
  const { succeeded, revision } = await store.commit({ when: [when], apply: [{ type: 'put', key, value }] })
  if (!succeeded) {
    throw new ProxyError('conflict', {
      reason: known
        ? 'the document has changed meanwhile; read it and try again'
        : 'the document exists already; replace it, or choose another name',
    })
  }
  return revision
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
