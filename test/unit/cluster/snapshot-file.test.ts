import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { type Saved, SnapshotFile } from '../../../lib/cluster/config/snapshot-file.ts'
import { silentLog } from '../../../lib/shared/log.ts'

let dir: string
let path: string
let warnings: unknown[]
let disk: SnapshotFile

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'llamero-disk-'))
  path = join(dir, 'snapshot.json')
  warnings = []
  disk = new SnapshotFile(path, { ...silentLog, warn: (_, fields) => void warnings.push(fields?.['path']) })
})

afterEach(() => rm(dir, { recursive: true }))

const version = (revision: string): Saved => ({
  uid: 'u',
  revision,
  savedAt: '2026-01-01T00:00:00.000Z',
  instances: 3,
  confirmedAt: '2026-01-01T00:00:00.000Z',
  objects: [
    {
      key: '/llamero/test/nodes/1',
      text: 'url: http://10.0.0.1:11434 # ä\n',
      created: '2',
      modified: '18446744073709551615',
      leased: false,
    },
  ],
  remembered: {},
  statuses: {
    b: {
      fence: '7',
      health: 'up',
      reason: '',
      since: '2026-01-01T00:00:00Z',
      version: '0.12.6',
      models: [],
      loaded: [],
      weight: 1,
    },
    1: {
      fence: '7',
      health: 'down',
      reason: 'connection refused',
      since: '2026-01-01T00:00:00Z',
      version: '',
      models: [],
      loaded: [],
      weight: 0,
    },
  },
})

test('what was saved last is loaded, and only its owner may read it', async () => {
  assert.equal(await disk.load(), null, 'nothing saved yet')
  await disk.save(version('8'))
  await disk.save(version('9'))
  assert.deepEqual(await disk.load(), version('9'))
  assert.deepEqual((await readdir(dir)).sort(), ['snapshot.json', 'snapshot.json.prev'])
  for (const file of await readdir(dir)) assert.equal((await stat(join(dir, file))).mode & 0o777, 0o600, file)
  assert.deepEqual(warnings, [])
})

test('a damaged file falls back to the version before, wherever the damage is', async () => {
  await disk.save(version('8'))
  await disk.save(version('9'))
  const whole = await readFile(path)
  for (let at = 0; at < whole.length - 1; at += 7) {
    await writeFile(path, whole.subarray(0, at))
    assert.equal((await disk.load())?.revision, '8', `cut off at ${at}`)
    const flipped = Buffer.from(whole)
    flipped[at] = (flipped[at] ?? 0) ^ 1
    await writeFile(path, flipped)
    assert.equal((await disk.load())?.revision, '8', `one bit at ${at}`)
  }
  assert.ok(warnings.length > 0 && warnings.every((damaged) => damaged === path))
})

test('a file that went missing between two renames falls back too; when both are damaged nothing is loaded', async () => {
  await disk.save(version('8'))
  await disk.save(version('9'))
  await rm(path)
  assert.equal((await disk.load())?.revision, '8')
  await writeFile(path, '')
  await writeFile(`${path}.prev`, '{"uid":null}')
  assert.equal(await disk.load(), null)
  assert.deepEqual(warnings, [path, `${path}.prev`])
})

test('a left-over of a crashed write is no obstacle, and a disk that refuses rejects', async () => {
  await writeFile(`${path}.new`, 'half', { mode: 0o644 })
  await disk.save(version('9'))
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  await assert.rejects(new SnapshotFile(join(dir, 'missing', 'x'), silentLog).save(version('9')))
})
