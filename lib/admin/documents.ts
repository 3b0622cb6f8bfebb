import { type Document, parseDocument } from 'yaml'
import type { z } from 'zod'
import { describeFaults, readDocument } from '../fleet/document.ts'
import { isObjectName, objectNameRule } from '../fleet/names.ts'
import { ProxyError } from '../shared/errors.ts'
import type { Entry, Store } from '../store/store.ts'

/** Fields to set in a document; null removes one. Labels and other maps are merged, everything else is replaced. */
export type Patch = Readonly<Record<string, unknown>>

/** @throws ProxyError `invalid` when the name cannot be part of a key. */
export function checkName(kind: string, name: string): string {
  if (!isObjectName(name))
    throw new ProxyError('invalid', { reason: `${kind} name "${name.slice(0, 80)}": ${objectNameRule}` })
  return name
}

/** Checks a document's text. @throws ProxyError `invalid` naming every faulty field. */
export function checkDocument<S extends z.ZodType>(text: string, schema: S): z.output<S> {
  const parsed = readDocument(text, schema)
  if (!parsed.ok) throw new ProxyError('invalid', { reason: describeFaults(parsed.faults) })
  return parsed.value
}

/** The text with the patch applied; the operator's comments and order of fields survive. */
export function patchText(text: string, patch: Patch): string {
  const document = parseDocument(text)
  change(document, [], patch)
  return String(document)
}

function change(document: Document, path: readonly string[], value: unknown): void {
  if (isPlain(value)) {
    for (const [field, inner] of Object.entries(value)) change(document, [...path, field], inner)
  } else if (value !== null) document.setIn(path, value)
  else if (document.hasIn(path)) document.deleteIn(path)
}

/** Writes a document unless somebody else has changed it since `known` was read. @throws ProxyError `conflict`. */
export async function writeDocument(
  store: Store,
  key: string,
  value: string,
  known: Entry | null,
): Promise<void> {
  const when = known ? { key, modified: known.modified } : { key, created: 0n }
  const { succeeded } = await store.commit({ when: [when], apply: [{ type: 'put', key, value }] })
  if (!succeeded) {
    throw new ProxyError('conflict', {
      reason: known ? 'somebody else changed it meanwhile; look and try again' : 'it exists already',
    })
  }
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
