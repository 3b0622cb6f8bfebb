import { closeSync, openSync } from 'node:fs'
import { isIP } from 'node:net'

/** A resource that this process may run out of. */
export type OwnResource = 'files' | 'ports' | 'memory'

/** The resource in words. */
export const ownResourceNames: Readonly<Record<OwnResource, string>> = {
  files: 'file descriptors',
  ports: 'local ports',
  memory: 'memory for connections',
}

const byCode: ReadonlyMap<string, OwnResource> = new Map([
  ['EMFILE', 'files'],
  ['ENFILE', 'files'],
  ['ENOBUFS', 'memory'],
  ['ENOMEM', 'memory'],
])

/** What Node adds to an Error of a system call. */
interface SystemError extends Error {
  readonly code?: string
  readonly address?: string
  readonly syscall?: string
}

/** Errors of a look-up of a host name that could not open its socket: the resolver does not say why (getaddrinfo(3)). */
const lookupCodes: ReadonlySet<string> = new Set([
  'EAI_AGAIN',
  'EAI_SYSTEM',
  'EAI_FAIL',
  'EAI_MEMORY',
  'ENOTFOUND',
])

/**
 * The resource that this process lacked when a system call failed; null when the peer caused the failure. A lack of this
 * process is no sign of a node's health.
 *
 * @param hasFiles whether a file can be opened now
 */
export function ownFaultOf(error: unknown, hasFiles: () => boolean = canOpenFile): OwnResource | null {
  if (!(error instanceof Error)) return null
  // Node tries each address of a name: one refusal comes from the peer.
  if (error instanceof AggregateError && error.errors.length > 0) {
    const faults = error.errors.map((each) => ownFaultOf(each, hasFiles))
    return faults.every((fault) => fault !== null) ? (faults[0] ?? null) : null
  }
  return faultOfCall(error, hasFiles) ?? ownFaultOf(error.cause, hasFiles)
}

function faultOfCall(
  { code = '', address = '', syscall }: SystemError,
  hasFiles: () => boolean,
): OwnResource | null {
  // Without IPv6 on this machine, connect(2) answers the same to an IPv6 address: that node cannot be reached from here.
  // From listen(2) it says that the address is another machine's: a wrong setting.
  if (code === 'EADDRNOTAVAIL') return syscall === 'listen' || isIP(address) === 6 ? null : 'ports'
  if (lookupCodes.has(code)) return hasFiles() ? null : 'files'
  return byCode.get(code) ?? null
}

/** Whether this process can open one more file. */
export function canOpenFile(): boolean {
  try {
    closeSync(openSync('/dev/null', 'r'))
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code !== 'EMFILE' && code !== 'ENFILE'
  }
}
