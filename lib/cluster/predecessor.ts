import { readFile, writeFile } from 'node:fs/promises'
import type { Log } from '../shared/log.ts'
import { processIdentity } from '../shared/process-identity.ts'

/**
 * Takes the place of the process that had this instance's name on this disk before, and returns its boot id: what it
 * registered before it was killed stands in the store for another TTL, and may be replaced at once. Null when there was
 * none, or when it still runs: then the place stays its own. Processes that do not see each other's ids, as in two
 * containers, must not share a state directory.
 *
 * @param path of the file that tells the next one. That it cannot be written is no reason not to start.
 */
export async function succeedPredecessor(path: string, boot: string, log: Log): Promise<string | null> {
  const text = await readFile(path, 'utf8').catch(() => '')
  const [, earlier = null, identity, pid] = /^(\S+) ((\d+)\.\d+)\n$/.exec(text) ?? []
  if (earlier !== null && (await processIdentity(Number(pid))) === identity) return null
  const line = `${boot} ${await processIdentity(process.pid)}\n`
  await writeFile(path, line, { mode: 0o600 }).catch((error: unknown) => {
    log.warn('the next process of this name will not know of this one', { path, error })
  })
  return earlier
}
