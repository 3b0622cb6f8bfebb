import { readFile, writeFile } from 'node:fs/promises'
import type { Log } from '../../shared/log.ts'
import { processIdentity } from '../../shared/process/process-identity.ts'

/**
 * Returns the boot id of the process that ran under this instance's name before, if it has ended, and records this
 * process as its successor. The registration of a killed process stays in the store for another TTL; its successor may
 * replace it at once. Null when there was none, or when it still runs. Processes that cannot see each other's process
 * ids, as in two containers, must not share a state directory.
 *
 * @param path of the record. An instance also starts when it cannot be written.
 */
export async function succeedPredecessor(path: string, boot: string, log: Log): Promise<string | null> {
  const text = await readFile(path, 'utf8').catch(() => '')
  const [, earlier = null, identity, pid] = /^(\S+) ((\d+)\.\d+)\n$/.exec(text) ?? []
  if (earlier !== null && (await processIdentity(Number(pid))) === identity) return null
  const line = `${boot} ${await processIdentity(process.pid)}\n`
  await writeFile(path, line, { mode: 0o600 }).catch((error: unknown) => {
    log.warn(
      'the boot id cannot be saved: after a crash, the next start waits up to one TTL for its registration',
      { path, error },
    )
  })
  return earlier
}
