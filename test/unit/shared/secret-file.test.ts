import assert from 'node:assert/strict'
import { test } from 'node:test'
import { directoryFault, isWorldReadable, secretFileFault } from '../../../lib/shared/process/secret-file.ts'

const regular = 0o100000
const user = 1000

test('a secret file belongs to this user, and only its owner can read it (350)', () => {
  const fault = (mode: number, uid = user) => secretFileFault('/s/f', { mode: regular | mode, uid }, user)
  for (const mode of [0o600, 0o400, 0o700]) assert.equal(fault(mode), null)
  for (const mode of [0o640, 0o604, 0o660, 0o602, 0o610, 0o666])
    assert.match(fault(mode) ?? '', /chmod 600 \/s\/f/)
  assert.match(fault(0o600, 0) ?? '', /belongs to user 0, .* as user 1000: run "chown 1000 \/s\/f"/)
})

test('a directory is safe when no other user can replace its files (350)', () => {
  const fault = (mode: number, uid = user) => directoryFault('/s', { mode: 0o40000 | mode, uid }, user)
  for (const mode of [0o700, 0o750, 0o755]) assert.equal(fault(mode), null)
  assert.equal(fault(0o755, 0), null, "the system's own")
  for (const mode of [0o775, 0o757, 0o777]) assert.match(fault(mode) ?? '', /chmod go-w \/s/)
  assert.match(fault(0o755, 33) ?? '', /belongs to user 33/)
})

test('a file is exposed where every user of the machine can read it (350)', () => {
  assert.equal(isWorldReadable({ mode: regular | 0o640 }), false)
  assert.equal(isWorldReadable({ mode: regular | 0o644 }), true)
})
