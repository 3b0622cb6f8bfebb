import type { IncomingHttpHeaders } from 'node:http'
import { hashToken, type Scope } from '../fleet/api-key.ts'
import type { KeyOptions } from '../fleet/caller-options.ts'
import type { KeyView, Snapshot } from '../fleet/snapshot.ts'
import type { Clock } from '../shared/clock.ts'
import { ProxyError } from '../shared/errors.ts'

/** Who asks: the tenant that is counted and the models it may see. */
export interface Caller {
  readonly tenant: string
  readonly models: readonly string[]
  readonly scopes: readonly Scope[]
  /** What its key says otherwise than `callers` of the config. */
  readonly options?: KeyOptions
}

/** Callers without a key, where they are let in at all. */
const anonymous: Caller = { tenant: 'anonymous', models: ['*'], scopes: ['inference'] }

/** Every token of ours begins with this, so anything else a client was made to send is no key. */
export const tokenPrefix = 'llm_'

interface Door {
  /** The listener is bound to loopback: only there may callers do without a key. */
  readonly loopback: boolean
  readonly clock: Clock
}

/**
 * Finds the caller by the token in `Authorization: Bearer` or `x-api-key`.
 *
 * On a loopback listener a token that cannot be one of ours counts as none: SDKs insist on sending some key.
 * Unknown, expired and revoked tokens get the same answer.
 *
 * @throws ProxyError `unauthorized`, `anonymous_refused`, or `bad_request` for two tokens that differ.
 */
export function authenticate(headers: IncomingHttpHeaders, snapshot: Snapshot, door: Door): Caller {
  const token = tokenOf(headers)
  if (token === null || (door.loopback && !token.startsWith(tokenPrefix))) {
    if (door.loopback) return anonymous
    throw new ProxyError(token === null ? 'anonymous_refused' : 'unauthorized')
  }
  const key = findKey(snapshot, token, 'inference', door.clock)
  if (!key) throw new ProxyError('unauthorized')
  return key
}

/** The key of a token, if it is valid now and has the scope. Looked up by hash only: the token's text reaches nothing. */
export function findKey(snapshot: Snapshot, token: string, scope: Scope, clock: Clock): KeyView | null {
  const key = snapshot.keys.get(hashToken(token))
  if (!key?.scopes.includes(scope)) return null
  if (key.expires && Date.parse(key.expires) <= clock.date().getTime()) return null
  return key
}

/** The token a request carries, or null. */
export function tokenOf(headers: IncomingHttpHeaders): string | null {
  const bearer = /^bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1]
  const offered = headers['x-api-key']
  const apiKey = typeof offered === 'string' && offered !== '' ? offered : undefined
  if (bearer && apiKey && bearer !== apiKey) {
    throw new ProxyError('bad_request', { reason: 'Authorization and x-api-key carry different keys' })
  }
  return bearer ?? apiKey ?? null
}
