import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { hashToken } from '../../fleet/api-key.ts'
import type { KeyOptions } from '../../fleet/caller-options.ts'
import type { Config } from '../../fleet/config.ts'
import { type Scope, scopes } from '../../fleet/scopes.ts'
import type { KeyView, Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import { inRanges } from '../../shared/net/address.ts'
import type { Exchange } from './exchange.ts'
import { checkHost, proxyHeaderOf } from './keyless.ts'
import type { Route } from './routes.ts'

/** Who asks: the tenant that is counted, the models it may see, and what it may do. */
export interface Caller {
  readonly tenant: string
  readonly models: readonly string[]
  /** It has scope `admin`: it may change models. */
  readonly mayManage: boolean
  /** What its key says otherwise than `callers` of the config. */
  readonly options?: KeyOptions
  /** The priority class its key names. */
  readonly class?: string
}

/** Callers without a key, where they are let in at all. */
const anonymous: Caller = { tenant: 'anonymous', models: ['*'], mayManage: false }

/** What a request's memory counts for: the caller's tenant, or where it has none its address. */
export function ownerOf(caller: Caller, address: string | undefined): string {
  return caller === anonymous ? `address ${address}` : `tenant ${caller.tenant}`
}

/** Every token of ours begins with this, so anything else a client was made to send is no key. */
export const tokenPrefix = 'llm_'

interface Door {
  /** The listener is bound to loopback: only there may callers do without a key. */
  readonly loopback: boolean
  /** What is asked for needs no key anywhere. */
  readonly open: boolean
  /** Any of these scopes lets a caller in. */
  readonly scopes: readonly Scope[]
  readonly clock: Clock
}

const inference: readonly Scope[] = ['inference']

/**
 * The caller of a request, as far as its route may be used by it.
 *
 * @throws ProxyError those of `identify`, and `admin_scope_required`.
 */
export function authenticate(
  { request, trace }: Exchange,
  route: Route,
  snapshot: Snapshot,
  { clock, loopback }: Pick<Door, 'clock' | 'loopback'>,
): Caller {
  const open = route.action === 'answer' && route.open
  // A key with the scope admin alone is good for these.
  const isForAdmins = route.kind === 'management' || (route.action === 'pass' && route.to === 'identity')
  const door = { clock, loopback, open, scopes: isForAdmins ? scopes : inference }
  const caller = identify(request, snapshot, door)
  trace.tenant = caller.tenant
  if (route.kind === 'management' && !caller.mayManage) throw new ProxyError('admin_scope_required')
  return caller
}

/**
 * Finds the caller by the token in `Authorization: Bearer` or `x-api-key`, else by its address, unless a proxy stands
 * between: the address is the proxy's then.
 *
 * Where callers may do without a key, a token that cannot be one of ours counts as none: SDKs insist on sending some key.
 * Unknown and revoked tokens get the same answer; a token that was good until it expired is told so.
 *
 * @throws ProxyError `unauthorized`, `key_expired`, `anonymous_refused`, `foreign_host`, `inference_scope_required` for a key that is good for changes only, or `bad_request` for two tokens that differ.
 */
function identify(
  { headers, socket }: Pick<IncomingMessage, 'headers' | 'socket'>,
  snapshot: Snapshot,
  door: Door,
): Caller {
  const { auth } = snapshot.config
  const token = tokenOf(headers)
  const guest = token === null || !token.startsWith(tokenPrefix) ? guestAt(socket, auth, door) : null
  const proxy = guest && !door.open ? proxyHeaderOf(headers) : null
  if (guest && proxy === null) {
    checkHost(headers, auth, door)
    return guest
  }
  if (token === null) {
    const reason = proxy === null ? whyRefused(auth, door) : throughProxy(proxy)
    throw new ProxyError('anonymous_refused', { reason })
  }
  return callerWith(token, snapshot, door)
}

function callerWith(token: string, snapshot: Snapshot, door: Door): Caller {
  const key = validKey(snapshot, token, door.clock)
  if (!key) throw expiryOf(snapshot, token, door.clock) ?? new ProxyError('unauthorized')
  if (!opens(key, door)) throw new ProxyError('inference_scope_required')
  return {
    tenant: key.tenant,
    models: key.models,
    mayManage: key.scopes.includes('admin'),
    ...(key.options && { options: key.options }),
    ...(key.class && { class: key.class }),
  }
}

/** The key of a token, if it is valid now and has the scope. */
export function findKey(snapshot: Snapshot, token: string, scope: Scope, clock: Clock): KeyView | null {
  const key = validKey(snapshot, token, clock)
  return key?.scopes.includes(scope) ? key : null
}

/** What the holder of an expired key is told; null for any other token. Keys expire by the clock of this machine. */
export function expiryOf(snapshot: Snapshot, token: string, clock: Clock): ProxyError | null {
  const key = snapshot.keys.get(hashToken(token))
  if (!key?.expires || !isExpired(key, clock)) return null
  return new ProxyError('key_expired', { expires: key.expires, now: clock.date().toISOString() })
}

/** Looked up by hash only: the token's text reaches nothing. */
function validKey(snapshot: Snapshot, token: string, clock: Clock): KeyView | null {
  const key = snapshot.keys.get(hashToken(token))
  return key && !isExpired(key, clock) ? key : null
}

function isExpired({ expires }: KeyView, clock: Clock): boolean {
  return expires !== undefined && Date.parse(expires) <= clock.date().getTime()
}

type Auth = Config['auth']

/** Who a caller without a key is, or null where it needs one. */
function guestAt(socket: IncomingMessage['socket'], auth: Auth, door: Door): Caller | null {
  const entry = entriesOf(auth).find(({ covers }) => covers(socket.remoteAddress ?? ''))?.entry
  if (entry && opens(entry, door))
    return { tenant: entry.tenant, models: ['*'], mayManage: entry.scopes.includes('admin') }
  return door.open || (door.loopback && auth.anonymous === 'loopback') ? anonymous : null
}

function whyRefused({ anonymous }: Auth, { loopback }: Door): string {
  return loopback && anonymous === 'none'
    ? 'every caller needs an API key here (auth.anonymous is none)'
    : 'callers without an API key are served on loopback only'
}

function throughProxy(header: string): string {
  return `this request came through a proxy (it has the header ${header}), so the address of its connection does not stand for an API key`
}

function opens({ scopes }: { readonly scopes: readonly Scope[] }, door: Door): boolean {
  return scopes.some((scope) => door.scopes.includes(scope))
}

interface AddressEntry {
  readonly entry: Auth['addresses'][number]
  readonly covers: (address: string) => boolean
}

/** Compiled once for each version of the configuration. */
const compiled = new WeakMap<Auth, readonly AddressEntry[]>()

function entriesOf(auth: Auth): readonly AddressEntry[] {
  const known = compiled.get(auth)
  if (known) return known
  const entries = auth.addresses.map((entry) => ({ entry, covers: inRanges(entry.cidr) }))
  compiled.set(auth, entries)
  return entries
}

/** The token a request carries, or null. */
export function tokenOf(headers: IncomingHttpHeaders): string | null {
  const { authorization, 'x-api-key': offered } = headers
  const bearer = authorization && /^bearer +(\S+) *$/i.exec(authorization)?.[1]
  const apiKey = typeof offered === 'string' && offered !== '' ? offered : undefined
  if (bearer && apiKey && bearer !== apiKey) {
    throw new ProxyError('bad_request', { reason: 'Authorization and x-api-key carry different keys' })
  }
  return bearer || apiKey || null
}
