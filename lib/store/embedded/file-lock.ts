import { readdir, rm, writeFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { processIdentity } from '../../shared/process/process-identity.ts'
import { StoreError } from '../store.ts'

/**
 * Locks `file` for this process and returns the function that unlocks it. The lock is a file `<file>.lock.<pid>.<start>`: a
 * dead process is known by its name, and its lock may be removed at any time, since that name is never used again.
 *
 * Every process first makes a claim and then looks for other claims: of two that start together, the later sees the earlier.
 * Both may refuse; never do both go on. This holds for processes that see each other's ids, so not across containers.
 *
 * @throws StoreError `denied` when a living process, this one included, has it
 */
export async function lock(file: string): Promise<() => Promise<void>> {
  const self = await processIdentity(process.pid)
  const claim = `${file}.lock.${self}`
  await writeFile(claim, '', { flag: 'wx', mode: 0o600 }).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'EEXIST' ? held(file, process.pid) : error
  })
  const unlock = () => rm(claim, { force: true })
  try {
    for (const other of await claimsOn(file)) {
      if (other === self) continue
      const pid = Number.parseInt(other, 10)
      if ((await processIdentity(pid)) === other) throw held(file, pid)
      await rm(`${file}.lock.${other}`, { force: true })
    }
    return unlock
  } catch (error) {
    await unlock()
    throw error
  }
}

function held(file: string, pid: number): StoreError {
  return new StoreError(
    'denied',
    `${file} is in use by process ${pid}: the embedded store serves one process; stop that one, use another state directory, or use etcd`,
  )
}

/** The identities, `<pid>.<start>`, of the processes with a claim on the file. */
async function claimsOn(file: string): Promise<string[]> {
  const prefix = `${basename(file)}.lock.`
  const names = await readdir(dirname(file))
  return names
    .filter((name) => name.startsWith(prefix))
    .map((name) => name.slice(prefix.length))
    .filter((identity) => /^\d+\.\d+$/.test(identity))
}
