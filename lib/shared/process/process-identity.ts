import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * `<pid>.<start>` of a running process, or null when there is none. Process ids are reused, in a container often the same
 * one after each start. Where /proc has it, the start of the process in clock ticks since boot makes the identity unique.
 */
export async function processIdentity(pid: number): Promise<string | null> {
  if (!isRunning(pid)) return null
  const stat = await readFile(join('/proc', String(pid), 'stat'), 'utf8').catch(() => '')
  // The fields after the command's name, which stands in parentheses and may hold anything: proc(5).
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return state === 'Z' ? null : `${pid}.${fields[18] ?? 0}`
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
