import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NodeStatus } from '../../../lib/fleet/node.ts'
import { alwaysAvailable } from '../../../lib/scheduler/fleet/availability.ts'
import { FleetFacts } from '../../../lib/scheduler/fleet/node-facts.ts'
import { aSnapshot } from '../../support/fleet.ts'
import { usedNowhere } from '../../support/scheduler.ts'

const around = {
  upstreams: { availabilityOf: () => alwaysAvailable },
  usedElsewhere: () => usedNowhere,
  leads: () => true,
}

test('Ollama counts cached tokens since 0.30.1, and an unreadable version counts as newer', () => {
  const snapshot = aSnapshot({ nodes: [{ name: 'n' }] })
  const counts = (version: string) => {
    const nodes = [...snapshot.nodes].map(
      ([name, node]) => [name, { ...node, status: { ...(node.status as NodeStatus), version } }] as const,
    )
    return new FleetFacts(around).read({ ...snapshot, nodes: new Map(nodes) })[0]?.countsEvaluated
  }
  for (const version of ['0.5.13', '0.29.9', '0.30.0', '0.30.0-rc2'])
    assert.equal(counts(version), true, version)
  for (const version of ['0.30.1', '0.31.0', '1.0.0', 'v-next', ''])
    assert.equal(counts(version), false, version)
})

test('an unchanged node yields the same facts object, and a new one when another instance uses it', () => {
  const used = new Map<string, 'runs' | 'loads'>()
  const facts = new FleetFacts({ ...around, usedElsewhere: () => ({ uses: used, holds: new Map() }) })
  const snapshot = aSnapshot({ nodes: [{ name: 'n' }] })
  const [first] = facts.read(snapshot)
  assert.equal(facts.read(snapshot)[0], first)
  used.set('n', 'loads')
  assert.notEqual(facts.read(snapshot)[0], first)
})
