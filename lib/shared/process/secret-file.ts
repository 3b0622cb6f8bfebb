import type { Stats } from 'node:fs'

type Access = Pick<Stats, 'mode' | 'uid'>

/** The user of this process; null where there are none (Windows). */
const self = process.geteuid?.() ?? null

/**
 * Why a file is not secret: other users can read or write it, or it belongs to another user, which may know its content.
 *
 * @returns the fault and the command that mends it; null when the file is secret
 */
export function secretFileFault(path: string, { mode, uid }: Access, user = self): string | null {
  if (user === null) return null
  if (uid !== user)
    return `${path} belongs to user ${uid}, and this process runs as user ${user}: run "chown ${user} ${path}", or remove it`
  if ((mode & 0o077) === 0) return null
  return `${path} is open to other users (mode ${octal(mode)}): run "chmod 600 ${path}", or remove it if others may have read it`
}

/** Why other users can put files into a directory of this process; null when they cannot. */
export function directoryFault(path: string, { mode, uid }: Access, user = self): string | null {
  if (user === null) return null
  if (uid !== user && uid !== 0) return `${path} belongs to user ${uid}, which can replace what is in it`
  if ((mode & 0o022) === 0) return null
  return `other users can replace what is in ${path} (mode ${octal(mode)}): run "chmod go-w ${path}"`
}

/** Whether every user of this machine can read a file. */
export function isWorldReadable({ mode }: Pick<Stats, 'mode'>): boolean {
  return self !== null && (mode & 0o004) !== 0
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0')
}
