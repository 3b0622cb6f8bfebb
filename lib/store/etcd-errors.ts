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

/** @param operation what was being done, a word of the Store interface. */
export function storeErrorOf(operation: string, cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause
  const fault = faultOf(cause)
  return new StoreError(fault, `${sentences[fault]} (${operation})`, { cause })
}

/** What is not known to be final is taken for passing: etcd3 has errors of many classes for "no connection" (sheet etcd.md §6). */
function faultOf(error: unknown): StoreFault {
  if (error instanceof EtcdLeaseInvalidError) return 'no-lease'
  return refusals.some((refusal) => error instanceof refusal) ? 'denied' : 'unavailable'
}
