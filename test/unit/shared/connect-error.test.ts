import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isConnectError } from '../../../lib/shared/net/connect-error.ts'

const ofCall = (code: string, syscall: string) => Object.assign(new Error(code), { code, syscall })

test('no connection came up where connect or the look-up failed, whatever the code, also of several addresses (301, 303)', () => {
  for (const code of ['EACCES', 'EPERM', 'EINVAL', 'ECONNREFUSED', 'ESOMENEWCODE'])
    assert(isConnectError(ofCall(code, 'connect')), code)
  assert(isConnectError(ofCall('ENOTFOUND', 'getaddrinfo')))
  assert(isConnectError(new AggregateError([ofCall('EACCES', 'connect'), ofCall('ECONNREFUSED', 'connect')])))
  assert(!isConnectError(ofCall('ECONNRESET', 'read')))
  assert(!isConnectError(new AggregateError([])))
  assert(!isConnectError('EACCES'))
})
