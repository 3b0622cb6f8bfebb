import type { StoredAnswer } from '../../api/documents.ts'
import type { AdminClient } from '../admin-client.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import type { Invocation } from '../invocation.ts'
import { textDiff } from '../terminal/text-diff.ts'
import type { DocumentTarget, TextTarget } from './document-file.ts'

/** The stored document; null when there is none. */
export async function storedText(admin: AdminClient, { path }: TextTarget): Promise<StoredAnswer | null> {
  try {
    const stored = await admin.get(path)
    return stored.modified === null ? null : stored
  } catch (error) {
    if (error instanceof CliFailure && error.exit === exits.notFound) return null
    throw error
  }
}

/** Stores a text in place of the version seen (null: there was none); undefined replaces any version. */
export function putText(
  admin: AdminClient,
  path: DocumentTarget['path'],
  text: string,
  seen: StoredAnswer | null | undefined,
): Promise<unknown> {
  return admin.send({ method: 'put', path, body: { text }, headers: condition(seen) })
}

function condition(seen: StoredAnswer | null | undefined): Record<string, string> {
  if (seen === undefined) return {}
  return seen === null ? { 'if-none-match': '*' } : { 'if-match': `"${seen.modified}"` }
}

/**
 * Shows the difference between two named texts.
 *
 * @returns whether there is one.
 */
export function showDiff(
  { terminal }: Invocation,
  name: string,
  texts: Readonly<Record<string, string>>,
): boolean {
  const [from, to] = Object.entries(texts).map(([side, text]) => ({ name: `${name} (${side})`, text }))
  if (!from || !to || from.text === to.text) return false
  terminal.show(null, 'table', ({ colour }) => textDiff(from, to, colour))
  return true
}
