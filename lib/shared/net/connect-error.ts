/**
 * Whether an error means that no connection was made: the name was not found or not allowed, or connect(2) failed, for any
 * reason. Firewalls and routes of this machine have codes of their own (EACCES, EPERM, EINVAL): no list of codes is complete.
 */
export function isConnectError(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  // Node tries each address of a name.
  if (error instanceof AggregateError) return error.errors.length > 0 && error.errors.every(isConnectError)
  const { syscall, code } = error as NodeJS.ErrnoException
  return syscall === 'connect' || syscall === 'getaddrinfo' || code === 'ERR_REFUSED_ADDRESS'
}
