import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { succeedPredecessor } from '../../../lib/cluster/membership/predecessor.ts'
import { silentLog } from '../../../lib/shared/log.ts'
import { processIdentity } from '../../../lib/shared/process/process-identity.ts'

/** More than Linux gives to a process. */
const nobody = 2 ** 22 + 1

let dir: string
let path: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'llamero-boot-'))
  path = join(dir, 'boot')
})
afterEach(() => rm(dir, { recursive: true }))

const succeed = (boot: string) => succeedPredecessor(path, boot, silentLog)

test('the first process on a disk has no predecessor, and is known to the next as one that still runs', async () => {
  assert.equal(await succeed('first'), null)
  assert.equal(await succeed('second'), null)
  assert.match(await readFile(path, 'utf8'), /^first /)
})

test('a process that is gone is succeeded, once', async () => {
  await writeFile(path, `gone ${nobody}.1\n`)
  assert.equal(await succeed('next'), 'gone')
  assert.equal(await readFile(path, 'utf8'), `next ${await processIdentity(process.pid)}\n`)
})

test('a process whose id another one has now is gone', async () => {
  await writeFile(path, `gone ${process.pid}.1\n`)
  assert.equal(await succeed('next'), 'gone')
})

test('a damaged file names no predecessor, and is replaced', async () => {
  for (const text of ['', 'gone', 'gone 12\n', `gone ${nobody}.1`, `a b ${nobody}.1\n`]) {
    await writeFile(path, text)
    assert.equal(await succeed('next'), null, text)
    assert.match(await readFile(path, 'utf8'), /^next /)
  }
})

test('a file that cannot be written is logged, and the instance starts', async () => {
  const warnings: string[] = []
  const log = { ...silentLog, warn: (message: string) => void warnings.push(message) }
  assert.equal(await succeedPredecessor(join(dir, 'missing', 'boot'), 'next', log), null)
  assert.deepEqual(warnings, [
    'the boot id cannot be saved: after a crash, the next start waits up to one TTL for its registration',
  ])
})
