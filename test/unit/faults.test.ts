import assert from 'node:assert/strict'
import type { ClientRequest } from 'node:http'
import { test } from 'node:test'
import { provesUnreachable } from '../../lib/gateway/connect-check.ts'
import { faultOf } from '../../lib/gateway/faults.ts'

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

test('a connection whose other end does not answer its keep-alive is lost, which is no bad sign of the node (304)', () => {
  assert.equal(faultOf(failed('ETIMEDOUT'), { ...onKept, forMs: 90_000 }), 'connection-lost')
})

test('only what the way says proves a node unreachable, not a name server or what lacks here (304)', () => {
  for (const code of ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ECONNECT_TIMEOUT'])
    assert(provesUnreachable(failed(code)), code)
  for (const code of ['ENOTFOUND', 'EAI_AGAIN', 'EMFILE', 'EADDRNOTAVAIL', 'ECONNRESET', 'CERT_HAS_EXPIRED'])
    assert(!provesUnreachable(failed(code)), code)
})
