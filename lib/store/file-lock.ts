import { randomUUID } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { StoreError } from './store.ts'

/** How often a lock may change hands under our eyes before we give up. */
const attempts = 5

/**
 * Takes the lock file `path` for this process and returns what gives it back. The lock of a dead process is taken over.
 *
 * @throws StoreError `denied` when a living process (this one included) has it
 */
export async function lock(path: string): Promise<() => Promise<void>> {
  const claim = `${path}.${randomUUID()}`
  await writeFile(claim, await identityOf(process.pid), { flag: 'wx', mode: 0o600 })
  try {
    for (let attempt = 0; attempt < attempts; attempt++) {
      // A link appears at once and with its content: nobody ever reads a half-written lock.
      if (await succeeds(link(claim, path), 'EEXIST')) return () => rm(path, { force: true })
      await evictDead(path)
    }
    throw new StoreError('denied', `${path}: other processes are starting at the same time`)
  } finally {
    await rm(claim, { force: true })
  }
}

/** Removes the lock when its holder is dead. */
async function evictDead(path: string): Promise<void> {
  const holder = await contentOf(path)
  if (holder === null) return
  await refuseLiving(path, holder)
  // Whoever judged the same dead lock may have replaced it by now: look at what was really moved.
  const evicted = `${path}.${randomUUID()}`
  if (!(await succeeds(rename(path, evicted), 'ENOENT'))) return
  try {
    const moved = await contentOf(evicted)
    if (moved === holder) return
    await succeeds(link(evicted, path), 'EEXIST')
    await refuseLiving(path, moved ?? '')
  } finally {
    await rm(evicted, { force: true })
  }
}

async function refuseLiving(path: string, holder: string): Promise<void> {
  const pid = Number.parseInt(holder, 10)
  if (!isRunning(pid) || (await identityOf(pid)) !== holder) return
  throw new StoreError(
    'denied',
    `${path} is held by process ${pid}: the embedded store serves one process; stop that one, use another state directory, or use etcd`,
  )
}

function isRunning(pid: number): boolean {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return codeOf(error) === 'EPERM'
  }
}

/**
 * Process ids come round again, after a reboot or in a container even the same one: where /proc tells it, the time of
 * the process's start makes the identity unique. A zombie holds nothing.
 */
async function identityOf(pid: number): Promise<string> {
  const stat = await contentOf(`/proc/${pid}/stat`)
  // Fields after the command's name, which is in parentheses and may hold anything: proc(5).
  const [state, ...fields] = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? []
  if (state === 'Z') return 'zombie'
  return `${pid} ${fields[18] ?? ''}`
}

/** The file's text, or null when the file, or the process that /proc shows as one, is gone. */
async function contentOf(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ESRCH') return null
    throw error
  })
}

/** Whether it worked; false when it failed with `code`, any other failure is thrown. */
async function succeeds(step: Promise<void>, code: string): Promise<boolean> {
  try {
    await step
    return true
  } catch (error) {
    if (codeOf(error) === code) return false
    throw error
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}
