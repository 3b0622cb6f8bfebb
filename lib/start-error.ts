import { userInfo } from 'node:os'
import { messageOf } from './shared/errors.ts'
import { type Address, formatAddress } from './shared/net/address.ts'

/** Why a llamero process cannot start: one line that names the fault, the reason and the remedy. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

const listeners = {
  listen: { what: 'the data listener', setting: '--listen or LLAMERO_LISTEN' },
  admin: { what: 'the admin listener', setting: '--admin or LLAMERO_ADMIN' },
} as const

/** Why a listener cannot be bound to its address. */
export function listenError(listener: keyof typeof listeners, address: Address, cause: unknown): StartError {
  const { what, setting } = listeners[listener]
  const told = formatAddress(address)
  const another = `give ${what} another address with ${setting}`
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: `${told} is in use by another process: stop that one, or ${another}`,
    EACCES: `no permission to listen on ${told}: allow it (CAP_NET_BIND_SERVICE), or ${another}, with a port above 1023`,
    EADDRNOTAVAIL: `${address.host} is not an address of this machine: ${another}, such as 0.0.0.0:${address.port}`,
    ENOTFOUND: `no address is known for the name ${address.host}: ${another}`,
    EAI_AGAIN: `the name ${address.host} cannot be looked up now: start again later, or ${another}`,
  }
  const reason = reasons[codeOf(cause)] ?? `cannot listen on ${told} (${messageOf(cause)}): ${another}`
  return new StartError(reason, { cause })
}

/** Why the state directory cannot be written. An error without a system code already says what to do and is returned as it is. */
export function stateError(directory: string, cause: unknown): unknown {
  const { code, path = directory } = cause as NodeJS.ErrnoException
  if (code === undefined) return cause
  const another = 'set another with --state or LLAMERO_STATE'
  const where = path === directory ? '' : ` (${path})`
  const cannot = `the state directory ${directory} cannot be written${where}`
  const reasons: Readonly<Record<string, string>> = {
    EACCES: `${cannot}: ${userName()} has no permission; run "chown -R ${userName()} ${directory}", or ${another}`,
    EPERM: `${cannot}: the system does not permit it; ${another}`,
    EROFS: `${cannot}: it is on a read-only file system; mount it writable, or ${another}`,
    ENOSPC: `${cannot}: the disk is full; free space on it, or ${another}`,
    EDQUOT: `${cannot}: the disk quota of ${userName()} is used up; free space, or ${another}`,
    EEXIST: `${directory} is a file, and must be the state directory: remove it, or ${another}`,
    ENOTDIR: `${directory} lies under a file, and must be the state directory: ${another}`,
  }
  return new StartError(reasons[code] ?? `${cannot}: ${code}; ${another}`, { cause })
}

/** Writes to standard error what to do about a log that cannot be written. */
export function sayLogLoss(cause: Error): void {
  const line = logLoss(cause)
  if (line !== null) process.stderr.write(`error: ${line}\n`)
}

/** Null when the reader of the log has closed its pipe, which is no fault. */
function logLoss(cause: unknown): string | null {
  const code = codeOf(cause)
  if (code === 'EPIPE') return null
  const remedy =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? 'free space on its disk, or send standard output elsewhere'
      : 'send standard output elsewhere'
  return `the log cannot be written to standard output (${code || messageOf(cause)}), and its lines are lost until it can: ${remedy}`
}

function codeOf(cause: unknown): string {
  return (cause as NodeJS.ErrnoException).code ?? ''
}

/** The user of this process; its number when it has no name. */
function userName(): string {
  try {
    return userInfo().username
  } catch {
    return String(process.geteuid?.() ?? 'this user') // as in a container
  }
}
