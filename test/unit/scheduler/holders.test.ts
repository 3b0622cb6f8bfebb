import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AvailabilityBarrier } from '../../../lib/scheduler/fleet/availability.ts'
import { alwaysAvailable } from '../../../lib/scheduler/fleet/availability.ts'
import { holdersText } from '../../../lib/scheduler/queue/holders.ts'
import { ProxyError } from '../../../lib/shared/errors.ts'
import { aSnapshot, type NodeSketch } from '../../support/fleet.ts'

const model = 'm:latest'

/** What the error says of the nodes that have the model. */
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
  return holdersText({ model, tried: new Set(tried) }, snapshot, upstreams)
}

test('each node that has the model is named with what keeps requests from it', () => {
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

test('of many nodes the first five are named, and how many more there are', () => {
  const nodes = Array.from({ length: 7 }, (_, n) => ({ name: `n${n}`, health: 'down' as const }))
  assert.match(told(nodes), /^n0 \(down\), .*n4 \(down\) and 2 more$/)
})

test('where callers must not see names of nodes, only the reasons are told', () => {
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

test('the error says which nodes, why and what to do', () => {
  const facts = { model, holders: told([{ name: 'a', health: 'down' }]) }
  assert.equal(
    new ProxyError('all_nodes_down', facts).message,
    "no Ollama server that has model 'm:latest' can take requests for it: a (down); try again in a few seconds",
  )
})
