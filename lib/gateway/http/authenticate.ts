import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { hashToken } from '../../fleet/api-key.ts'
import type { ApiKeyOptions } from '../../fleet/caller-options.ts'
import type { Config } from '../../fleet/config.ts'
import { type Scope, scopes } from '../../fleet/scopes.ts'
import type { ApiKeyView, Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import { inRanges } from '../../shared/net/address.ts'
import type { Exchange } from './exchange.ts'
import type { DataEndpoint } from './find-endpoint.ts'
import { checkHost, proxyHeaderOf } from './keyless.ts'

/** The caller: its tenant, the models it may see, and what it may do. */
export interface Caller {
  readonly tenant: string
  readonly models: readonly string[]
  /** It has scope `admin`, and may change models. */
  readonly mayManage: boolean
  /** Options of its key, which override `callers` of the configuration. */
  readonly options?: ApiKeyOptions
  /** The priority class its key names. */
  readonly class?: string
}

/** The caller without a key, where none is needed. */
const anonymous: Caller = { tenant: 'anonymous', models: ['*'], mayManage: false }

/** The owner that body bytes count for: the tenant of the key, or the address of a caller without one. */
export function ownerOf(caller: Caller, address: string | undefined): string {
  return caller === anonymous ? `address ${address}` : `tenant ${caller.tenant}`
}

/** Every llamero token begins with this. Clients that must send some key send others. */
export const tokenPrefix = 'llm_'

interface Door {
  /** The listener is bound to loopback: only there callers may do without a key. */
  readonly loopback: boolean
  /** The endpoint needs no key on any listener. */
  readonly open: boolean
  /** A key with one of these scopes is accepted. */
  readonly scopes: readonly Scope[]
  readonly clock: Clock
}

const inference: readonly Scope[] = ['inference']

/**
 * Finds the caller and checks that it may use the endpoint.
 *
 * @throws ProxyError those of `identify`, and `admin_scope_required`.
 */
export function authenticate(
  { request, trace }: Exchange,
  endpoint: DataEndpoint,
  snapshot: Snapshot,
  { clock, loopback }: Pick<Door, 'clock' | 'loopback'>,
): Caller {
  const open = endpoint.action === 'answer' && endpoint.open
  // Endpoints for which a key with only the scope admin is accepted.
  const isForAdmins =
    endpoint.kind === 'management' || (endpoint.action === 'pass' && endpoint.to === 'identity')
  const door = { clock, loopback, open, scopes: isForAdmins ? scopes : inference }
  const caller = identify(request, snapshot, door)
  trace.tenant = caller.tenant
  if (endpoint.kind === 'management' && !caller.mayManage) throw new ProxyError('admin_scope_required')
  return caller
}

/**
 * Finds the caller by the token in `Authorization: Bearer` or `x-api-key`, else by its address. Behind a proxy the
 * address is that of the proxy, and identifies no caller.
 *
 * Where callers may do without a key, a token without the prefix of llamero counts as none: SDKs insist on sending
 * some key. Unknown and revoked tokens get the same error; an expired token gets its own.
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
  const key = validApiKey(snapshot, token, door.clock)
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
export function findApiKey(snapshot: Snapshot, token: string, scope: Scope, clock: Clock): ApiKeyView | null {
  const key = validApiKey(snapshot, token, clock)
  return key?.scopes.includes(scope) ? key : null
}

/** The error for an expired key; null for any other token. Keys expire by the clock of this machine. */
export function expiryOf(snapshot: Snapshot, token: string, clock: Clock): ProxyError | null {
  const key = snapshot.keys.get(hashToken(token))
  if (!key?.expires || !isExpired(key, clock)) return null
  return new ProxyError('key_expired', { expires: key.expires, now: clock.date().toISOString() })
}

/** Keys are looked up by hash: the text of a token is stored and logged nowhere. */
function validApiKey(snapshot: Snapshot, token: string, clock: Clock): ApiKeyView | null {
  const key = snapshot.keys.get(hashToken(token))
  return key && !isExpired(key, clock) ? key : null
}

function isExpired({ expires }: ApiKeyView, clock: Clock): boolean {
  return expires !== undefined && Date.parse(expires) <= clock.date().getTime()
}

type Auth = Config['auth']

/** The caller without a key at this address; null where a key is needed. */
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

/** Compiled once per version of the configuration. */
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
    throw new ProxyError('bad_request', {
      reason: 'Authorization and x-api-key carry different keys; send one of them',
    })
  }
  return bearer || apiKey || null
}
