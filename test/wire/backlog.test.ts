import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { startInstance } from '../support/instance.ts'

/** More than Node's own backlog of 511, and fewer than a process may open by default. */
const callers = 800

/** Opens connections from another process while this one accepts none, and counts those that the kernel completes. */
function connectedWhileBusy(port: number): number {
  const script = `
    const { connect } = require('node:net')
    let connected = 0
    const tell = () => { process.stdout.write(String(connected)); process.exit() }
    for (let n = 0; n < ${callers}; n++)
      connect(${port}, '127.0.0.1').on('error', () => {}).on('connect', () => { if (++connected === ${callers}) tell() })
    setTimeout(tell, 3000)` // no room comes free: nothing is accepted meanwhile
  return Number(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }))
}

const somaxconn = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'))
const enough = { skip: somaxconn < callers ? `net.core.somaxconn is ${somaxconn}` : false }

suite('the listen backlog', enough, () => {
  test('of the data listener holds 800 connections while the event loop is busy (383)', async () => {
    await using gateway = await startGateway(aSnapshot())
    assert.equal(connectedWhileBusy(gateway.port), callers)
  })

  test('of the admin listener holds 800 connections while the event loop is busy (383)', async () => {
    await using instance = await startInstance({ nodes: 0 })
    assert.equal(connectedWhileBusy(instance.app.admin.port), callers)
  })

  test('of a simulated node holds 800 connections while the event loop is busy (383)', async () => {
    const node = await SimulatedNode.start({ name: 'a', models: [] })
    try {
      assert.equal(connectedWhileBusy(Number(new URL(node.url).port)), callers)
    } finally {
      await node.stop()
    }
  })
})
