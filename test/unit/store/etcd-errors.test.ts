import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BrokenCircuitError } from 'cockatiel'
import {
  ClientClosedError,
  castGrpcError,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  GRPCDeadlineExceededError,
  GRPCOutOfRangeError,
  GRPCUnavailableError,
} from 'etcd3'
import { storeErrorOf } from '../../../lib/store/etcd/etcd-errors.ts'
import { StoreError, type StoreFault } from '../../../lib/store/store.ts'

/** As grpc-js reports it: an Error with a status code. */
function grpc(code: number, details: string): Error {
  return castGrpcError(Object.assign(new Error(`${code}: ${details}`), { code }))
}

describe('the fault of an error of etcd', () => {
  const cases: [error: Error, fault: StoreFault][] = [
    [new EtcdLeaseInvalidError('1'), 'no-lease'],
    [grpc(5, 'etcdserver: requested lease not found'), 'no-lease'],
    [new EtcdPermissionDeniedError('no'), 'denied'],
    [grpc(3, 'etcdserver: request is too large'), 'denied'],
    [grpc(3, 'etcdserver: too many operations in txn request'), 'denied'],
    [grpc(3, 'etcdserver: user name is empty'), 'denied'],
    [grpc(8, 'etcdserver: mvcc: database space exceeded'), 'denied'],
    [grpc(16, 'etcdserver: invalid auth token'), 'denied'],
    [grpc(11, 'etcdserver: mvcc: required revision has been compacted'), 'unavailable'],
    [grpc(14, 'etcdserver: no leader'), 'unavailable'],
    [new GRPCUnavailableError('no connection'), 'unavailable'],
    [new GRPCDeadlineExceededError('too late'), 'unavailable'],
    [new GRPCOutOfRangeError('compacted'), 'unavailable'],
    [new BrokenCircuitError(), 'unavailable'],
    [new ClientClosedError('KV'), 'unavailable'],
    [new Error('anything else'), 'unavailable'],
  ]
  for (const [cause, fault] of cases) {
    it(`is ${fault} for ${cause.constructor.name}: ${cause.message}`, () => {
      const error = storeErrorOf('get', cause)
      assert.ok(error instanceof StoreError)
      assert.equal(error.fault, fault)
      assert.equal(error.cause, cause)
    })
  }

  it('stays what it is when it is a StoreError already', () => {
    const error = new StoreError('no-lease', 'gone')
    assert.equal(storeErrorOf('renew', error), error)
  })
})
