import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, chown, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { readOrCreateToken } from '../../../lib/admin/token.ts'

suite('the admin token', () => {
  let state = ''
  const file = () => join(state, 'admin-token')
  beforeEach(async () => {
    state = await mkdtemp(join(tmpdir(), 'llamero-token-'))
  })
  afterEach(() => rm(state, { recursive: true }))

  test('is the same for all instances that start at the same moment, and no other file is left', async () => {
    const tokens = await Promise.all(Array.from({ length: 8 }, () => readOrCreateToken(file())))
    assert.equal(new Set(tokens).size, 1)
    assert.match(tokens[0] ?? '', /^[\w-]{43}$/)
    assert.deepEqual(await readdir(state), ['admin-token'])
  })

  test('is complete whenever the file exists: an instance that starts at the same time must not read an empty one', async () => {
    for (let round = 0; round < 50; round++) {
      let isMade = false
      const making = readOrCreateToken(file()).finally(() => (isMade = true))
      while (!isMade) {
        if (existsSync(file())) assert.equal(readFileSync(file(), 'utf8').length, 44, `round ${round}`)
        await setImmediate()
      }
      await making
      await rm(file())
    }
  })

  test('is readable by its owner only, and stays', async () => {
    const token = await readOrCreateToken(file())
    assert.equal((await stat(file())).mode & 0o777, 0o600)
    assert.equal(await readOrCreateToken(file()), token)
    assert.equal((await readFile(file(), 'utf8')).trim(), token)
  })

  for (const mode of [0o640, 0o604, 0o620, 0o644])
    test(`in a file that others can read or write (mode ${mode.toString(8)}) is refused, with what to type (350)`, async () => {
      const token = await readOrCreateToken(file())
      await chmod(file(), mode)
      await assert.rejects(readOrCreateToken(file()), {
        message: `${file()} is open to other users (mode 0${mode.toString(8)}): run "chmod 600 ${file()}", or remove it if others may have read it`,
      })
      await chmod(file(), 0o600)
      assert.equal(await readOrCreateToken(file()), token)
    })

  test('in a file of another user is refused (350)', {
    skip: process.geteuid?.() !== 0 && 'needs root',
  }, async () => {
    await readOrCreateToken(file())
    await chown(file(), 65534, 65534)
    await assert.rejects(readOrCreateToken(file()), { message: /belongs to user 65534.*run "chown 0 / })
  })

  test('of an empty file is an error that says what to do', async () => {
    await writeFile(file(), '', { mode: 0o600 })
    await assert.rejects(readOrCreateToken(file()), { message: /admin-token holds no token: remove it/ })
  })
})
