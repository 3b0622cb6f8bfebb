import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { listenError, stateError } from '../../../lib/start-error.ts'

/** An error as a system call's, of Node. */
const failed = (code: string, path?: string) =>
  Object.assign(new Error(`${code}: no luck`), { code, ...(path !== undefined && { path }) })

suite('why an instance cannot start is one line with path, setting and remedy:', () => {
  for (const [code, reason, remedy] of [
    ['EACCES', 'has no permission', /chown -R \S+ \/var\/x/],
    ['EROFS', 'read-only file system', /mount it writable/],
    ['ENOSPC', 'the disk is full', /free space/],
    ['EDQUOT', 'quota', /free space/],
    ['EIO', 'EIO', /set another/],
  ] as const)
    test(`a state directory, ${code}`, () => {
      const { message } = stateError('/var/x', failed(code, '/var/x/admin-token.1')) as Error
      assert.match(message, /^the state directory \/var\/x cannot be written \(\/var\/x\/admin-token\.1\): /)
      assert.ok(message.includes(reason), message)
      assert.match(message, remedy)
      assert.match(message, /set another with --state or LLAMERO_STATE$/)
    })

  test('an error that names its remedy is unchanged', () => {
    const error = new Error('x holds no token: remove it, and the next start makes a new one')
    assert.equal(stateError('/var/x', error), error)
  })

  for (const [code, reason] of [
    ['EADDRINUSE', 'is in use by another process'],
    ['EACCES', 'no permission to listen on'],
    ['EADDRNOTAVAIL', 'is not an address of this machine'],
    ['ENOTFOUND', 'no address is known for the name'],
    ['EINVAL', 'no luck'],
  ] as const)
    test(`a listener, ${code}`, () => {
      const { message } = listenError('admin', { host: 'here', port: 80 }, failed(code))
      assert.ok(message.includes('here') && message.includes(reason), message)
      assert.match(message, /give the admin listener another address with --admin or LLAMERO_ADMIN/)
    })
})
