import {
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  GRPCFailedPreconditionError,
  GRPCInvalidArgumentError,
  GRPCNotImplementedError,
  GRPCResourceExhastedError,
  GRPCUnauthenticatedError,
} from 'etcd3'
import { messageOf } from '../shared/errors.ts'
import { StoreError, type StoreFault } from './store.ts'

/** Asking again gives the same answer: permission, size, quota. */
const refusals = [
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdPermissionDeniedError,
  GRPCFailedPreconditionError,
  GRPCInvalidArgumentError,
  GRPCNotImplementedError,
  GRPCResourceExhastedError,
  GRPCUnauthenticatedError,
]

const sentences: Record<StoreFault, string> = {
  unavailable: 'etcd did not answer',
  'no-lease': 'etcd does not know the lease',
  denied: 'etcd refused',
  closed: 'the store is closed',
}

/** What an operator can do, by what TLS and etcd say of the cause. Only for people: decisions go by the fault. */
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
  [
    /permission denied/i,
    "the user that our certificate's CN names may not do this: grant it a role with readwrite on the prefix (etcdctl role grant-permission)",
  ],
  [
    /user name is empty|invalid auth token|authentication failed/i,
    'etcd wants to know who asks: set LLAMERO_ETCD_CERT and LLAMERO_ETCD_KEY, the CN is the user',
  ],
  [/database space exceeded/i, 'its quota is used up: compact, defragment and disarm the alarm (etcdctl)'],
]

/** @param operation what was being done, a word of the Store interface. */
export function storeErrorOf(operation: string, cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause
  const fault = faultOf(cause)
  const todo = adviceOn(cause)
  const sentence = `${sentences[fault]} (${operation})`
  return new StoreError(fault, todo === null ? sentence : `${sentence}; ${todo}`, { cause })
}

/** Null when time may heal it. */
export function adviceOn(cause: unknown): string | null {
  return advice.find(([said]) => said.test(messageOf(cause)))?.[1] ?? null
}

/** What is not known to be final is taken for passing: etcd3 has errors of many classes for "no connection" (sheet etcd.md §6). */
function faultOf(error: unknown): StoreFault {
  if (error instanceof EtcdLeaseInvalidError) return 'no-lease'
  return refusals.some((refusal) => error instanceof refusal) ? 'denied' : 'unavailable'
}
