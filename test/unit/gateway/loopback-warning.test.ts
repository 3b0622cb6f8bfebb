import assert from 'node:assert/strict'
import { test } from 'node:test'
import { apiKeySchema, hashToken } from '../../../lib/fleet/api-key.ts'
import { CurrentSnapshot } from '../../../lib/fleet/snapshot.ts'
import { logLoopbackWarning, loopbackWarning } from '../../../lib/gateway/http/loopback-warning.ts'
import type { Log } from '../../../lib/shared/log.ts'
import { aSnapshot } from '../../support/fleet.ts'

const keys = new Map([['team', apiKeySchema.parse({ hash: hashToken('llm_x') })]])
const withAuth = (auth: object, some = keys) => aSnapshot({ keys: some, config: { auth } })

test('the warning about loopback callers without a key is given only when keys exist (342)', () => {
  assert.match(loopbackWarning(withAuth({}), true) ?? '', /auth\.anonymous: none/)
  assert.equal(loopbackWarning(withAuth({}, new Map()), true), null)
  assert.equal(loopbackWarning(withAuth({}), false), null)
  assert.equal(loopbackWarning(withAuth({ anonymous: 'none' }), true), null)
  const rule = (cidr: string) => ({
    anonymous: 'none',
    addresses: [{ cidr: ['192.0.2.0/24'] }, { cidr: [cidr] }],
  })
  for (const cidr of ['127.0.0.0/8', '127.0.0.1/32', '0.0.0.0/0', '::1/128'])
    assert.match(loopbackWarning(withAuth(rule(cidr)), false) ?? '', /auth\.addresses\[1\]/, cidr)
  assert.equal(loopbackWarning(withAuth(rule('10.0.0.0/8')), true), null)
})

test('the warning is logged when it first applies, not at each snapshot (342)', () => {
  const warned: string[] = []
  const log: Log = { error() {}, warn: (message) => void warned.push(message), info() {}, debug() {} }
  const snapshot = new CurrentSnapshot()
  logLoopbackWarning(snapshot, true, log)
  snapshot.swap(withAuth({}, new Map()))
  assert.equal(warned.length, 0)
  for (let n = 0; n < 3; n++) snapshot.swap(withAuth({}))
  assert.equal(warned.length, 1)
  snapshot.swap(withAuth({ anonymous: 'none' }))
  snapshot.swap(withAuth({}))
  assert.equal(warned.length, 2)
})
