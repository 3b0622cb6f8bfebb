import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startNode } from '../bench/contestants.ts'
import { startInstance } from '../bench/llamero.ts'
import { askMany, openIdleStreams } from '../bench/load.ts'

/** Until what the streams need is old. */
const openMs = 1500
const load = { connections: 32, total: 20_000, rate: 3000 }

test('requests leave young garbage behind, also when many streams have been open for long', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'llamero-garbage-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const node = await startNode(dir)
  t.after(() => node.stop())
  await node.answers()
  const { program, admin } = await startInstance({ name: 'llamero', dir, nodeArgs: ['--trace-gc'] })
  t.after(() => program.stop())
  await admin.change('PUT', 'nodes/bench', { url: `http://127.0.0.1:${node.port}`, slots: 1024 })
  await program.answers()

  const streams = await openIdleStreams(program.port, 500)
  await sleep(openMs)
  for (const stream of streams) stream.close()
  await askMany(program.port, load)
  const before = collections(dir).length
  await askMany(program.port, load)
  const share = agedShare(collections(dir).slice(before))
  assert.ok(share < 0.05, `${(100 * share).toFixed(1)} % of all that is allocated grows old`)
})

interface Collection {
  readonly isFull: boolean
  /** Megabytes in the heap. */
  readonly before: number
  readonly after: number
}

function collections(dir: string): Collection[] {
  const log = readFileSync(join(dir, 'llamero.log'), 'utf8')
  return [...log.matchAll(/ms: (Scavenge|Mark-Compact).*? ([\d.]+) \([\d.]+\) -> ([\d.]+)/g)].map(
    ([, kind, before, after]) => ({
      isFull: kind === 'Mark-Compact',
      before: Number(before),
      after: Number(after),
    }),
  )
}

/** What outlived a collection of young objects, as a share of what was allocated since the one before. */
function agedShare(all: readonly Collection[]): number {
  let [allocated, aged] = [0, 0]
  for (const [nth, { isFull, before, after }] of all.entries()) {
    const last = all[nth - 1]
    if (!last || last.isFull || isFull) continue
    allocated += before - last.after
    aged += after - last.after
  }
  return aged / allocated
}
