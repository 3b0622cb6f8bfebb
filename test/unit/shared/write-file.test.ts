import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { createFile } from '../../../lib/shared/process/write-file.ts'

let dir: string
let path: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'llamero-write-'))
  path = join(dir, 'file')
})
afterEach(() => rm(dir, { recursive: true }))

test('a new file is for its owner only, and does not follow a link of its name', async () => {
  const other = join(dir, 'other')
  await writeFile(other, 'untouched')
  await symlink(other, path)
  const file = await createFile(path, (each) => each.writeFile('new'))
  await file.close()
  assert.equal(await readFile(other, 'utf8'), 'untouched')
  assert.equal(await readFile(path, 'utf8'), 'new')
  assert.equal((await stat(path)).mode & 0o777, 0o600)
})

test('a file that cannot be filled is not left behind', async () => {
  const refuse = async () => Promise.reject(new Error('disk full'))
  await assert.rejects(createFile(path, refuse), /disk full/)
  assert.deepEqual(await readdir(dir), [])
})
