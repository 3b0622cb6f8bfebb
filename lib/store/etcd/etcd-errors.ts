import { messageOf } from '../../shared/errors.ts'
import type { Trouble } from '../condition.ts'
import { StoreError, type StoreFault } from '../store.ts'
import { faultOf } from './etcd3.ts'

const sentences: Record<StoreFault, string> = {
  unavailable: 'etcd did not answer',
  'no-lease': 'etcd does not know the lease',
  denied: 'etcd refused',
  closed: 'the store is closed',
}

/** What the operator can do, by the TLS error of a failed connection. For the text only: decisions go by the fault. */
const advice: readonly (readonly [said: RegExp, advice: string])[] = [
  [
    /unable to (verify|get)|self[- ]signed/i,
    "etcd's certificate is not signed by the authority we trust: set LLAMERO_ETCD_CA to the PEM file of the one that signed it",
  ],
  [
    /ERR_TLS_CERT_ALTNAME_INVALID/,
    "etcd's certificate is for another host: use an endpoint that it names, or issue one that names this endpoint",
  ],
  [/certificate has expired/i, "etcd's certificate has expired: issue a new one"],
  [
    /alert (bad|unsupported|revoked|expired|unknown) certificate|alert certificate|alert unknown ca/i,
    "etcd does not accept our certificate: set LLAMERO_ETCD_CERT and LLAMERO_ETCD_KEY to one that has not expired and is signed by etcd's --trusted-ca-file",
  ],
]

/** What etcd refuses until the operator acts, by the text of its error (etcd's `api/v3rpc/rpctypes/error.go`). */
const troubles: readonly (readonly [said: RegExp, trouble: Omit<Trouble, 'refuses'>])[] = [
  [
    /database space exceeded/i,
    {
      kind: 'no-space',
      reason: 'the quota of etcd is used up',
      remedy:
        'compact, defragment, and disarm the alarm with etcdctl (compaction, defrag, alarm disarm), or raise --quota-backend-bytes',
    },
  ],
  [
    /corrupt cluster/i,
    {
      kind: 'corrupt',
      reason: 'etcd has an alarm for corrupt data',
      remedy:
        'find the member with "etcdctl alarm list" and "etcdctl endpoint hashkv --cluster", replace it, then "etcdctl alarm disarm"',
    },
  ],
  [
    /permission denied/i,
    {
      kind: 'no-permission',
      reason: "the user that our certificate's CN names may not do this",
      remedy: 'grant it a role with readwrite on the prefix (etcdctl role grant-permission)',
    },
  ],
  [
    /user name is empty|invalid auth token|authentication failed/i,
    {
      kind: 'no-permission',
      reason: 'etcd requires authentication',
      remedy: 'set LLAMERO_ETCD_CERT and LLAMERO_ETCD_KEY to a certificate whose CN is a user of etcd',
    },
  ],
]

/** Alarms of etcd by their names (`etcdctl alarm list`), and the text of the matching refusal. */
const alarms = [
  ['NOSPACE', 'database space exceeded'],
  ['CORRUPT', 'corrupt cluster'],
] as const

/** @param operation the method of the Store interface that failed */
export function storeErrorOf(operation: string, cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause
  const fault = faultOf(cause)
  const remedy = adviceOn(cause)
  const sentence = `${sentences[fault]} (${operation})`
  return new StoreError(fault, remedy === null ? sentence : `${sentence}; ${remedy}`, { cause })
}

/** Advice for the operator; null when the fault may pass by itself. */
export function adviceOn(cause: unknown): string | null {
  const trouble = troubleIn(messageOf(cause))
  if (trouble) return `${trouble.reason}: ${trouble.remedy}`
  return advice.find(([said]) => said.test(messageOf(cause)))?.[1] ?? null
}

/**
 * The trouble behind a refused call; null when only this call was refused.
 *
 * @param isRead whether it would have changed nothing
 */
export function troubleOf(cause: unknown, isRead: boolean): Trouble | null {
  const trouble = troubleIn(messageOf(cause))
  return trouble && { ...trouble, refuses: isRead || trouble.kind === 'corrupt' ? 'everything' : 'writes' }
}

/** The trouble in the `errors` of a member's status. */
export function alarmIn(errors: readonly string[]): Trouble | null {
  const alarm = alarms.find(([name]) => errors.some((error) => error.includes(name)))
  return alarm ? troubleOf(new Error(alarm[1]), false) : null
}

function troubleIn(message: string): Omit<Trouble, 'refuses'> | null {
  return troubles.find(([said]) => said.test(message))?.[1] ?? null
}
