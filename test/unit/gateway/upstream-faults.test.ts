import assert from 'node:assert/strict'
import type { ClientRequest } from 'node:http'
import { test } from 'node:test'
import { provesUnreachable } from '../../../lib/gateway/availability/version-check.ts'
import { faultOf } from '../../../lib/gateway/upstream/upstream-faults.ts'

const failed = (code: string) => Object.assign(new Error(code), { code })
const onKept = { request: { reusedSocket: true } as ClientRequest, forMs: 3, heard: false }

test('a kept socket is stale within half a second of the write, and only while nothing was read (382)', () => {
  for (const code of ['ECONNRESET', 'EPIPE']) {
    assert.equal(faultOf(failed(code), onKept), 'stale-socket')
    assert.equal(faultOf(failed(code), { ...onKept, forMs: 500 }), 'stale-socket')
    assert.equal(faultOf(failed(code), { ...onKept, forMs: 501 }), 'reset')
    assert.equal(faultOf(failed(code), { ...onKept, heard: true }), 'reset')
    assert.equal(faultOf(failed(code), { ...onKept, request: null }), 'reset')
  }
})

test('a connection without answers to its keep-alive is lost, which does not count against the node (304)', () => {
  assert.equal(faultOf(failed('ETIMEDOUT'), { ...onKept, forMs: 90_000 }), 'connection-lost')
})

const ofCall = (code: string, syscall: string) => Object.assign(failed(code), { syscall })

test('an error of connect proves a node unreachable; an error of the name server or of this process does not (304)', () => {
  for (const code of [
    'ECONNREFUSED',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'EACCES',
    'EPERM',
    'EINVAL',
    'ETIMEDOUT',
  ])
    assert(provesUnreachable(ofCall(code, 'connect')), code)
  for (const code of ['EHOSTUNREACH', 'ENETDOWN', 'ECONNECT_TIMEOUT'])
    assert(provesUnreachable(failed(code)), code)
  for (const code of ['EMFILE', 'EADDRNOTAVAIL', 'ENOBUFS'])
    assert(!provesUnreachable(ofCall(code, 'connect')), code)
  for (const code of ['ENOTFOUND', 'EAI_AGAIN']) assert(!provesUnreachable(ofCall(code, 'getaddrinfo')), code)
  for (const code of ['ECONNRESET', 'CERT_HAS_EXPIRED']) assert(!provesUnreachable(failed(code)), code)
  const each = (...codes: string[]) => new AggregateError(codes.map((code) => ofCall(code, 'connect')))
  assert(provesUnreachable(each('ECONNREFUSED', 'EACCES')))
  assert(!provesUnreachable(each('EMFILE', 'EMFILE')))
})

test('a failed connect is never a closed connection (303)', () => {
  for (const code of ['EACCES', 'EPERM', 'EINVAL', 'ENETDOWN', 'ETIMEDOUT', 'ECONNREFUSED'])
    assert.equal(faultOf(ofCall(code, 'connect'), onKept), 'unreachable', code)
  assert.equal(faultOf(ofCall('ENOTFOUND', 'getaddrinfo'), onKept), 'unreachable')
  assert.equal(faultOf(failed('ERR_REFUSED_ADDRESS'), onKept), 'unreachable')
  assert.equal(faultOf(ofCall('EMFILE', 'connect'), onKept), 'own-fault')
})
