import type { CurrentSnapshot, Snapshot } from '../../fleet/snapshot.ts'
import type { Log } from '../../shared/log.ts'
import { inRanges } from '../../shared/net/address.ts'

/**
 * The warning for an operator with API keys, where callers on this machine need none: through a reverse proxy on this
 * machine every client is such a caller. Null when there is nothing to warn of.
 */
export function loopbackWarning({ config, keys }: Snapshot, isLoopback: boolean): string | null {
  const { auth } = config
  if (keys.size === 0) return null
  if (isLoopback && auth.anonymous === 'loopback')
    return 'API keys exist, but callers on this machine need none, and through a reverse proxy on this machine every client is such a caller; to require a key from all, set auth.anonymous: none'
  const rule = auth.addresses.findIndex(({ cidr }) => ['127.0.0.1', '::1'].some(inRanges(cidr)))
  if (rule < 0) return null
  return `API keys exist, but auth.addresses[${rule}] lets callers on this machine in without one, and through a reverse proxy on this machine every client is such a caller; to require a key from all, remove that range`
}

/** Logs the warning when it first applies, and when it changes. */
export function logLoopbackWarning(snapshot: CurrentSnapshot, isLoopback: boolean, log: Log): void {
  let logged: string | null = null
  snapshot.onSwap(() => {
    const warning = loopbackWarning(snapshot.get(), isLoopback)
    if (warning !== null && warning !== logged) log.warn(warning)
    logged = warning
  })
}
