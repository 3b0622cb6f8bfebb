import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { Blobs } from '../../../lib/simulation/http/disk/blobs.ts'
import { Downloads } from '../../../lib/simulation/http/disk/downloads.ts'
import { bytesPerMiB, layersOf } from '../../../lib/simulation/http/disk/layers.ts'
import { aModel, type Layer } from '../../../lib/simulation/http/disk/model-definition.ts'

const layer: Layer = { kind: 'model', digest: `sha256:${'a'.repeat(64)}`, bytes: 100 * bytesPerMiB }

/** Ten seconds for the layer. */
function aNet(mibPerSecond = 10) {
  const clock = new VirtualClock()
  const blobs = new Blobs([])
  return { clock, blobs, downloads: new Downloads(clock, blobs, mibPerSecond) }
}

test('a download follows the clock, and is a blob once it is complete', async () => {
  const { clock, blobs, downloads } = aNet()
  const share = downloads.join(layer, null)
  await clock.advance(2500)
  assert.equal(share.completed, 25 * bytesPerMiB)
  await clock.advance(60_000)
  assert.equal(share.completed, layer.bytes)
  share[Symbol.dispose]()
  assert.equal(blobs.get(layer.digest)?.bytes, layer.bytes)
})

test('two clients share one download, which goes on while one of them stays', async () => {
  const { clock, blobs, downloads } = aNet()
  const first = downloads.join(layer, null)
  await clock.advance(4000)
  const second = downloads.join(layer, null)
  assert.equal(second.completed, 40 * bytesPerMiB)
  first[Symbol.dispose]()
  await clock.advance(3000)
  assert.equal(second.completed, 70 * bytesPerMiB)
  second[Symbol.dispose]()
  await clock.advance(60_000)
  assert.equal(blobs.has(layer.digest), false)
  assert.equal(blobs.partialBytes(layer.digest), 70 * bytesPerMiB)
})

test('the next download begins with what the last one left, unless the node died meanwhile', async () => {
  const { clock, blobs, downloads } = aNet()
  const first = downloads.join(layer, null)
  await clock.advance(4000)
  first[Symbol.dispose]()
  const second = downloads.join(layer, null)
  assert.equal(second.completed, 40 * bytesPerMiB)
  downloads.forget()
  blobs.prune(new Set())
  second[Symbol.dispose]()
  assert.equal(downloads.join(layer, null).completed, 0)
})

test('a stalled download stands still where it should, and then goes on', async () => {
  const { clock, downloads } = aNet()
  const share = downloads.join(layer, { atMiB: 30, ms: 5000 })
  const seen: number[] = []
  for (const ms of [2000, 2000, 3000, 3000]) {
    await clock.advance(ms)
    seen.push(share.completed / bytesPerMiB)
  }
  assert.deepEqual(seen, [20, 30, 30, 50])
})

test('with a speed of 0 a download is complete at once', () => {
  assert.equal(aNet(0).downloads.join(layer, null).completed, layer.bytes)
})

test('a start of the node leaves the blobs that some model names, and no others', () => {
  const [kept, gone] = [aModel({ name: 'kept' }), aModel({ name: 'gone' })].map((model) => layersOf(model))
  const blobs = new Blobs([...kept!, ...gone!])
  blobs.prune(new Set(kept!.map(({ digest }) => digest)))
  assert.deepEqual(
    [...kept!, ...gone!].map(({ digest }) => blobs.has(digest)),
    [true, true, false, false],
  )
})
