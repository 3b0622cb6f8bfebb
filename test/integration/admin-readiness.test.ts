import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { withNodes } from '../../lib/fleet/snapshot.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { type Instance, startInstance } from '../support/instance.ts'
import { until } from '../support/processes.ts'

const model = 'm:1b'

suite('/readyz?model=', () => {
  let instance: Instance
  before(async () => {
    instance = await startInstance({
      nodes: 2,
      models: [aModel({ name: model, loadMs: 10 })],
      // Probes of its own, a minute apart, play no part.
      config: { probes: { interval: '60s' } },
    })
  })
  after(() => instance[Symbol.asyncDispose]())

  const ready = async () => (await fetch(`${instance.adminUrl}/readyz?model=${model}`)).status
  /** Has a leader of another instance say this of every node, or this one. */
  function advise(health: 'up' | 'down', fence: string) {
    const { snapshot } = instance.app
    const changes = [...snapshot.get().nodes].map(([name, { status }]) => {
      assert(status)
      return [name, { status: { ...status, health, fence } }] as const
    })
    snapshot.swap(withNodes(snapshot.get(), new Map(changes)))
  }
  const ownFence = () => [...instance.app.snapshot.get().nodes.values()][0]?.status?.fence ?? ''

  test('is ready while a leader elsewhere advises that each node of the model is down (301)', async () => {
    const own = ownFence()
    advise('down', '999999')
    assert.equal(await ready(), 200)
    const body = JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }], stream: false })
    const chat = await fetch(`${instance.url}/api/chat`, { method: 'POST', body })
    assert.equal(chat.status, 200, 'as for requests')
    advise('down', own)
    assert.equal(await ready(), 503, 'its own probes say so')
    advise('up', own)
    assert.equal(await ready(), 200)
  })

  test('is not while no connection of its own comes up to any, whatever is advised (301)', async () => {
    const [first, second] = instance.nodes
    assert(first && second)
    await Promise.all([first.control.refuse(), second.control.refuse()])
    advise('up', '999999')
    const caller = new AbortController()
    const body = JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }] })
    const chat = fetch(`${instance.url}/api/chat`, { method: 'POST', body, signal: caller.signal }).catch(
      () => {},
    )
    await until(async () => (await ready()) === 503, 'both refused it', 5000)
    caller.abort()
    await chat
    await first.control.accept()
    await until(async () => (await ready()) === 200, 'one takes connections again', 10_000)
    await second.control.accept()
  })
})
