import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'

test('slots without a setting are learned from the waiting times of requests on the node', async () => {
  // Ten times faster: an answer of half a second takes 50 ms.
  const clock = new RealClock(0.1)
  const text = 'word '.repeat(20)
  const model = aModel({ name: 'm', loadMs: 0, promptTps: 0, decodeTps: 40, text })
  await using ends = new AsyncDisposableStack()
  const node = await SimulatedNode.start({ name: 'a', models: [model], numParallel: 3, clock })
  ends.defer(() => node.stop())
  const snapshot = aSnapshot({ nodes: [{ name: 'a', url: node.url, loaded: ['m:latest'] }] })
  await using gateway = await startGateway(snapshot, { clock })
  const running: number[] = []
  const ask = async () => {
    const body = JSON.stringify({ model: 'm', stream: false, prompt: 'x' })
    const answer = await fetch(`${gateway.url}/api/generate`, { method: 'POST', body })
    running.push(gateway.scheduler.running('a'))
    assert.equal(answer.status, 200)
    await answer.text()
  }
  const caller = async () => {
    while (running.length < 72) await ask()
  }
  await Promise.all(Array.from({ length: 6 }, caller))
  // One more than there are was tried, and found to wait; the last requests find no company.
  assert.deepEqual(new Set(running.slice(-30, -6)), new Set([3]), running.join(' '))
  assert.equal(Math.max(...running), 4, running.join(' '))
})
