import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AvailabilityBarrier } from '../../../lib/scheduler/fleet/availability.ts'
import { alwaysAvailable } from '../../../lib/scheduler/fleet/availability.ts'
import { unavailableNodesText } from '../../../lib/scheduler/queue/unavailable-nodes.ts'
import { ProxyError } from '../../../lib/shared/errors.ts'
import { aSnapshot, type NodeSketch } from '../../support/fleet.ts'

const model = 'm:latest'

/** The part of the error text about the nodes that have the model. */
function told(
  nodes: readonly NodeSketch[],
  barriers: Readonly<Record<string, AvailabilityBarrier>> = {},
  config: Record<string, unknown> = {},
  tried: readonly string[] = [],
): string {
  const upstreams = {
    availabilityOf: (node: string) => ({ ...alwaysAvailable, barrier: barriers[node] ?? null }),
  }
  const snapshot = aSnapshot({ nodes: nodes.map((node) => ({ models: [model], ...node })), config })
  return unavailableNodesText({ model, tried: new Set(tried) }, snapshot, upstreams)
}

test('each node with the model is named with the reason why it gets no request', () => {
  const nodes: readonly NodeSketch[] = [
    { name: 'a', health: 'down' },
    { name: 'b', state: 'cordoned' },
    { name: 'c' },
    { name: 'd' },
    { name: 'e', models: ['other:latest'] },
  ]
  assert.equal(
    told(nodes, { c: 'refused' }, {}, ['d']),
    'a (down), b (cordoned), c (refuses connections), d (failed this request)',
  )
})

test('of many nodes the error names five, and the number of the others', () => {
  const nodes = Array.from({ length: 7 }, (_, n) => ({ name: `n${n}`, health: 'down' as const }))
  assert.match(told(nodes), /^n0 \(down\), .*n4 \(down\) and 2 more$/)
})

test('if callers must not see node names, the error gives only the reasons', () => {
  const nodes: readonly NodeSketch[] = [
    { name: 'secret-a', health: 'down' },
    { name: 'secret-b', health: 'down' },
    { name: 'secret-c' },
  ]
  assert.equal(
    told(nodes, { 'secret-c': 'ejected' }, { headers: { node: false } }),
    'down, failed too many requests lately',
  )
})

test('the error names the nodes, the reasons and what to do', () => {
  const facts = { model, unavailable: told([{ name: 'a', health: 'down' }]) }
  assert.equal(
    new ProxyError('all_nodes_down', facts).message,
    "no Ollama server that has model 'm:latest' can take requests for it: a (down); try again in a few seconds",
  )
})
