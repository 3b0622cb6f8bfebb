import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../../lib/shared/random.ts'
import { compare } from '../../../lib/simulation/fleet/comparison.ts'
import { defaultFleetText, readFleetPlan } from '../../../lib/simulation/fleet/fleet-plan.ts'
import { plot } from '../../../lib/simulation/fleet/plot.ts'
import { deviation, mean, tally } from '../../../lib/simulation/fleet/tally.ts'
import { generateTrace, readTrace } from '../../../lib/simulation/fleet/trace.ts'
import { requestsOf, type TrafficRequest } from '../../../lib/simulation/fleet/traffic.ts'
import { LeastConnections, smallFleet } from '../../support/rehearsal.ts'

test('the default fleet is the one that docs/routing.md describes', () => {
  const { nodes, models } = readFleetPlan(defaultFleetText)
  assert.deepEqual(
    nodes.map(({ name, speed, memory }) => [name, speed, memory / 1e9]),
    [1, 2, 3]
      .map((at) => [`a${at}`, 1, 24])
      .concat([1, 2, 3].map((at) => [`b${at}`, 2.5, 48]))
      .concat([1, 2].map((at) => [`c${at}`, 6, 80])),
  )
  assert.deepEqual(
    models.map(({ share }) => Math.round(1000 * share)),
    [380, 204, 141, 109, 89, 76],
  )
})

const wrongFleets: readonly [what: string, text: string, fault: RegExp][] = [
  ['no nodes', 'models: [{name: m, size: 1}]', /nodes/],
  [
    'an unknown field',
    'nodes: [{name: n, memory: 9, sped: 2}]\nmodels: [{name: m, size: 1}]',
    /line 1.*speed/,
  ],
  ['a size that is none', 'nodes: [{name: n, memory: 9}]\nmodels:\n  - {name: m, size: -1}', /line 3/],
  [
    'two nodes of one name',
    'nodes: [{name: n, memory: 9}, {name: n, memory: 9}]\nmodels: [{name: m, size: 1}]',
    /two nodes/,
  ],
  ['a model too large', 'nodes: [{name: n, memory: 9}]\nmodels: [{name: m, size: 40}]', /no node .* model m/],
]
for (const [what, text, fault] of wrongFleets) {
  test(`a fleet file with ${what} is refused, and the place is named`, () => {
    assert.throws(() => readFleetPlan(text), { code: 'invalid', message: fault })
  })
}

const header = 'timestamp_s,prompt_tokens,output_tokens'

test('a trace is read by the names of its columns', () => {
  const text = `session,${header},parent_row,reusable_prefix_tokens\n7,0,10,5,-1,0\r\n7,1.5,30,6,0,15\n`
  assert.deepEqual(readTrace(text), [
    { at: 0, promptTokens: 10, outputTokens: 5, session: '7', reusableTokens: 0 },
    { at: 1.5, promptTokens: 30, outputTokens: 6, session: '7', reusableTokens: 15 },
  ])
  assert.equal(readTrace(`${header}\n0,1,1\n1,1,1`)[1]?.session, null)
})

const wrongTraces: readonly [text: string, fault: RegExp][] = [
  ['', /line 1 has no column timestamp_s, prompt_tokens, output_tokens/],
  ['timestamp_s,prompt_tokens\n1,2', /line 1 has no column output_tokens/],
  [`${header}\n0,1,1\n1,x,1`, /line 3 .*prompt_tokens/],
  [`${header}\n0,1,1\n1,1`, /line 3 .*output_tokens/],
  [`${header}\n5,1,1\n\n4,1,1`, /line 4 is earlier/],
  [`${header}\n5,1,1`, /two requests/],
]
for (const [text, fault] of wrongTraces) {
  test(`a wrong trace is refused with its line: ${fault.source}`, () => {
    assert.throws(() => readTrace(text), { code: 'invalid', message: fault })
  })
}

test('made-up requests are like those of the Azure trace', () => {
  const rows = generateTrace(20_000, seededRandom(1))
  const within = (value: number, wanted: number, share: number) =>
    assert.ok(Math.abs(value / wanted - 1) < share, `${value} is not near ${wanted}`)
  within(mean(rows.map(({ promptTokens }) => promptTokens)), 1154, 0.08)
  within(mean(rows.map(({ outputTokens }) => outputTokens)), 211, 0.08)
  const gaps = rows.slice(1).map(({ at }, index) => at - (rows[index]?.at ?? 0))
  within(deviation(gaps) / mean(gaps), 1.1, 0.1)
})

test('three of five requests continue an earlier one: same model, same tenant, and some of the prompt', () => {
  const requests = requestsOf(generateTrace(5000, seededRandom(1)), smallFleet().models, seededRandom(2))
  const turns = Map.groupBy(requests, ({ conversation }) => conversation)
  assert.ok(Math.abs(1 - turns.size / requests.length - 0.6) < 0.03)
  for (const [first, ...others] of turns.values()) {
    assert.equal(first?.reusableTokens, 0)
    for (const turn of others) {
      assert.deepEqual([turn.model, turn.tenant], [first?.model, first?.tenant])
      assert.ok(turn.reusableTokens > 0 && turn.reusableTokens < turn.promptTokens)
      const lengths = turn.prefixes.map(({ tokens }) => tokens)
      assert.equal(lengths.at(-1), turn.promptTokens)
    }
  }
  const shares = Map.groupBy(requests, ({ tenant }) => tenant)
  assert.ok(Math.abs((shares.get('tenant-1')?.length ?? 0) / requests.length - 0.55) < 0.06)
})

test('a tally leaves out the first tenth and counts refused requests as outside the goal', () => {
  const request = (at: number, tenant: string): TrafficRequest => ({
    id: `${at}`,
    at,
    tenant,
    model: 'a',
    promptTokens: 1,
    outputTokens: 50,
    conversation: at,
    session: null,
    reusableTokens: 0,
    prefixes: [],
  })
  const served = (at: number, ttft: number, seconds: number, tenant = 'x') => {
    const firstTokenAt = at + ttft
    return {
      request: request(at, tenant),
      end: 'served',
      firstTokenAt,
      endedAt: firstTokenAt + seconds,
      cachedTokens: 0,
    } as const
  }
  const outcomes = [
    served(0, 99, 1),
    ...[1, 2, 3, 4, 5, 6].map((at) => served(at, 1, 10)),
    served(7, 6, 1),
    served(8, 1, 11, 'y'),
    { request: request(9, 'y'), end: 'refused', firstTokenAt: null, endedAt: 9, cachedTokens: 0 } as const,
  ]
  const { slo, tenantSlo, worstTenantSlo, ttftP50, refused, failed, requests } = tally(outcomes, {
    ttft: 5,
    pace: 5,
  })
  assert.deepEqual([requests, slo, refused, failed, ttftP50], [9, 6 / 9, 1, 0, 1])
  assert.deepEqual([tenantSlo, worstTenantSlo], [{ x: 6 / 7, y: 0 }, 0])
})

test('a comparison reports every contestant, round by round, and can be drawn', async () => {
  const rounds: string[] = []
  const options = {
    fleet: smallFleet(),
    trace: null,
    load: 0.5,
    requests: 100,
    scenario: 'steady',
    patience: null,
    goal: { ttft: 5, pace: 5 },
    seeds: [1, 2],
  } as const
  const contestant = {
    name: 'least & best',
    allResident: false,
    instances: 1,
    deciderOf: () => new LeastConnections(),
  }
  const { standings, curves } = await compare(options, [contestant], async (policy, round) => {
    rounds.push(`${policy} ${round}`)
  })
  assert.deepEqual(rounds, ['least & best 1', 'least & best 2'])
  assert.equal(standings[0]?.figures.requests.mean, 90)
  const { mean: slo = 0, sd = 0 } = standings[0]?.figures.slo ?? {}
  assert.ok(slo > 0 && slo <= 1 && sd > 0)
  const svg = plot(curves, 'a <test>')
  assert.match(svg, /^<svg .*a &lt;test>.*least &amp; best.*<\/svg>\n$/s)
  assert.equal(svg.match(/<polyline/g)?.length, 2)
  assert.doesNotMatch(svg, /NaN|Infinity|undefined/)
})
