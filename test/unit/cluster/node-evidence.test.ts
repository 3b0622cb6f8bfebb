import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { NodeEvidence } from '../../../lib/cluster/probing/node-evidence.ts'
import type { Finding } from '../../../lib/cluster/probing/node-health.ts'
import type { InstanceRecord } from '../../../lib/fleet/instance.ts'
import { silentLog } from '../../../lib/shared/log.ts'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import type { Entry } from '../../../lib/store/store.ts'
import { keys } from '../../support/cluster.ts'
import { aSnapshot } from '../../support/fleet.ts'

/** Instances that know of each other by a store that takes half a second, and reach the nodes or not. */
function aCluster(names: readonly string[], nodes: readonly string[] = ['n1', 'n2', 'n3']) {
  const snapshot = aSnapshot({ nodes: nodes.map((name) => ({ name, url: `http://${name}:1` })) })
  const dead = new Set<string>()
  const clock = new VirtualClock()
  const entries = new Map<string, Entry>()
  const reachable = new Map(names.map((name) => [name, true]))
  const lines: string[] = []
  let revision = 0n
  const put = (key: string, value: unknown) => {
    revision++
    const entry = { key, value: JSON.stringify(value), created: 1n, modified: revision, lease: '1' }
    entries.set(key, entry)
    for (const each of instances.values()) each.follow(new Set([key]), entries)
  }
  const recordOf = (id: string): InstanceRecord => ({
    ...{ id, boot: id, version: '1', data: '', admin: '', started: '', revision: '1' },
    ...{ role: 'standby', draining: false, successor: null },
    ...instances.get(id)?.inRecord,
  })
  const publish = (id: string) =>
    void clock.after(500, () => {
      put(keys.instance(id), recordOf(id))
      put(keys.load(id), { running: {}, queued: 0, ...instances.get(id)?.inLoad })
    })
  /** How ways to the nodes fail, and milliseconds that well nodes take to answer. */
  const way = { fault: 'unreachable' as 'unreachable' | 'timeout' | 'answer', statusMs: 0 }
  const probe = async (
    id: string,
    { url }: { readonly url: string },
    timeoutMs: number,
  ): Promise<Finding> => {
    const isWell = reachable.get(id) && !dead.has(new URL(url).hostname)
    const tookMs = isWell ? way.statusMs : way.fault === 'timeout' ? Number.POSITIVE_INFINITY : 0
    if (tookMs > 0) await clock.sleep(Math.min(tookMs, timeoutMs))
    if (tookMs > timeoutMs) return { kind: 'timeout', reason: `no answer within ${timeoutMs} ms` }
    return isWell ? { kind: 'answered' } : { kind: way.fault, reason: 'it failed' }
  }
  const note = (id: string) => (line: string) => void lines.push(`${id}: ${line}`)
  const instances = new Map(
    names.map((id) => [
      id,
      new NodeEvidence({
        ...{ keys, clock, metrics: new Metrics(), random: () => 0.5 },
        log: { ...silentLog, warn: note(id), info: note(id) },
        snapshot: { get: () => snapshot },
        instance: { name: id },
        instances: () => names.map(recordOf),
        publish: () => publish(id),
        changed: () => {},
        probe: (spec, timeoutMs) => probe(id, spec, timeoutMs),
      }),
    ]),
  )
  for (const id of names) publish(id)
  for (const each of instances.values()) each.start()
  const of = (id: string) => instances.get(id) as NodeEvidence
  return {
    ...{ clock, lines, of, dead, way },
    cut: (...ids: readonly string[]) => {
      for (const id of ids) reachable.set(id, false)
    },
    heal: (...ids: readonly string[]) => {
      for (const id of ids) reachable.set(id, true)
    },
    cutOff: () => names.filter((id) => of(id).cutOff !== null).join(' '),
  }
}

suite('an instance', () => {
  test('that reaches no node is cut off while another one does, and says so once; then it is back (303)', async () => {
    const { clock, cut, heal, cutOff, lines, of } = aCluster(['a', 'b', 'c'])
    await clock.advance(30_000)
    assert.equal(cutOff(), '')
    cut('b')
    of('b').contacts.failed('n1')
    await clock.advance(3000)
    assert.equal(cutOff(), 'b', 'a failed request is reason enough to look')
    assert.equal(of('b').cutOff?.nodes, 3)
    await clock.advance(120_000)
    assert.equal(cutOff(), 'b')
    heal('b')
    await clock.advance(3000)
    assert.equal(cutOff(), '')
    assert.deepEqual(lines, [
      'b: cut off: this instance reaches no node, another instance does; not ready',
      'b: no longer cut off from the nodes: ready',
    ])
  })

  test('without requests finds out by itself that it reaches no node (303)', async () => {
    const { clock, cut, cutOff } = aCluster(['a', 'b'])
    await clock.advance(30_000)
    cut('b')
    await clock.advance(15_000)
    assert.equal(cutOff(), 'b')
  })

  for (const fault of ['timeout', 'answer'] as const)
    test(`to which nodes accept connections and give no good answer is cut off while they answer another one: ${fault} (303)`, async () => {
      const { clock, cut, heal, cutOff, of, way } = aCluster(['a', 'b', 'c'])
      way.fault = fault
      await clock.advance(30_000)
      cut('a', 'b')
      for (const id of ['a', 'b']) of(id).contacts.failed('n1')
      await clock.advance(15_000)
      assert.equal(cutOff(), 'a b')
      assert.equal(of('a').cutOff?.peer, 'c')
      await clock.advance(60_000)
      assert.equal(cutOff(), 'a b')
      heal('a', 'b')
      await clock.advance(5000)
      assert.equal(cutOff(), '')
    })

  test('is not cut off while nodes take seconds for their status routes, though they answer others (303)', async () => {
    for (const statusMs of [1500, 2500, 5000]) {
      const { clock, cutOff, of, way } = aCluster(['a', 'b', 'c'])
      await clock.advance(30_000)
      way.statusMs = statusMs
      for (let n = 0; n < 30; n++) {
        for (const node of ['n1', 'n2', 'n3']) of('c').contacts.answered(node)
        await clock.advance(2000)
        assert.equal(cutOff(), '', `${statusMs} ms`)
      }
    }
  })

  test('stays ready when no instance reaches a node, and when it is alone (303)', async () => {
    for (const names of [['a', 'b', 'c'], ['a']]) {
      const { clock, cut, cutOff, lines } = aCluster(names)
      await clock.advance(30_000)
      cut(...names)
      await clock.advance(60_000)
      assert.equal(cutOff(), '')
      assert.deepEqual(lines, [])
    }
  })

  test('is not cut off by what others reached before it lost the nodes (303)', async () => {
    const { clock, cut, cutOff, of } = aCluster(['a', 'b'])
    for (let n = 0; n < 10; n++) {
      of('a').contacts.answered('n1')
      await clock.advance(3000)
    }
    cut('a', 'b')
    of('b').contacts.failed('n1')
    await clock.advance(60_000)
    assert.equal(cutOff(), '')
  })

  test('is not cut off because most nodes are dead: it looks further (303)', async () => {
    const nodes = Array.from({ length: 20 }, (_, nth) => `n${nth}`)
    const { clock, dead, cutOff, of } = aCluster(['a', 'b'], nodes)
    for (const node of nodes.slice(0, 19)) dead.add(node)
    for (let n = 0; n < 10; n++) {
      of('a').contacts.answered('n19')
      await clock.advance(3000)
      assert.equal(cutOff(), '')
    }
  })

  test('whose requests are answered is not probed for (303)', async () => {
    const { clock, cut, cutOff, of } = aCluster(['a', 'b'])
    cut('b')
    for (let n = 0; n < 20; n++) {
      of('b').contacts.answered('n1')
      await clock.advance(5000)
    }
    assert.equal(cutOff(), '')
  })

  test('that asks is told which nodes each other one reaches, within seconds (301)', async () => {
    const { clock, cut, of } = aCluster(['a', 'b', 'c'])
    await clock.advance(1000)
    cut('a', 'c')
    const asked = of('a').ask(['n1', 'n3', 'unknown'])
    const startedAt = clock.now()
    await clock.advance(1200)
    assert.deepEqual(
      await asked,
      new Map([
        ['b', new Set(['n1', 'n3'])],
        ['c', new Set()],
      ]),
    )
    assert.ok(of('a').peersReached('n1')! >= startedAt)
    await clock.advance(1000)
    assert.deepEqual([of('a').inRecord, of('b').inLoad], [{}, {}], 'question and answers are withdrawn')
  })

  test('that asks does not wait for those that do not answer (301)', async () => {
    const { clock, of } = aCluster(['a', 'b'])
    of('b').stop()
    const asked = of('a').ask(['n1'])
    const second = of('a').ask(['n2'])
    await clock.advance(12_000)
    assert.equal((await asked).size + (await second).size, 2, 'both were asked, one after the other')
    const { clock: other, of: alone } = aCluster(['a'])
    const none = alone('a').ask(['n1'])
    await other.advance(0)
    assert.equal((await none).size, 0)
  })
})
