import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { CliContext } from '../../../lib/cli/cli-context.ts'
import { rehearse } from '../../../lib/commands/rehearse.ts'
import { defaultFleetText, readFleetPlan } from '../../../lib/simulation/fleet/fleet-plan.ts'
import { llamero } from '../../support/cli.ts'

const none = () => assert.fail('not this command')
const context: Pick<CliContext, 'run' | 'defaultFleet'> = {
  run: { serve: none, quickstart: none, agent: none, simulateNode: none, rehearse },
  defaultFleet: async () => defaultFleetText,
}
const simulate = (options: string) => llamero(`simulate ${options}`, context)

async function aFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'llamero-rehearsal-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

test('all policies are compared, and the reference', async () => {
  const { code, out } = await simulate('--requests 50 --seeds 1')
  assert.equal(code, 0)
  const [header = '', ...rows] = out.trimEnd().split('\n')
  assert.match(header, /^POLICY +SLO % +TTFT P50/)
  assert.deepEqual(
    rows.map((row) => row.split(' ')[0]),
    ['earliest-finish', 'least-connections', 'round-robin', 'weighted', 'resident-first', 'reference'],
  )
})

test('a fleet, a trace and a policy of one’s own, as JSON and as a picture', async (t) => {
  const folder = await aFolder(t)
  const [fleet, trace, plot] = ['fleet.yaml', 'trace.csv', 'plot.svg'].map((name) => join(folder, name))
  const rows = Array.from({ length: 20 }, (_, at) => `${at},100,10`)
  await writeFile(fleet ?? '', 'nodes: [{ name: n, memory: 24 }]\nmodels: [{ name: m, size: 3 }]\n')
  await writeFile(trace ?? '', `timestamp_s,prompt_tokens,output_tokens\n${rows.join('\n')}\n`)
  const { code, out, err } = await simulate(
    `--fleet ${fleet} --trace ${trace} --plot ${plot} --policy earliest-finish --load 0.1 --seeds 2 -o json`,
  )
  assert.equal(code, 0, err)
  const { policies, ...asked } = JSON.parse(out)
  assert.deepEqual([asked.load, asked.seeds, asked.trace], [0.1, 2, trace])
  assert.deepEqual(policies[0].slo, { mean: 1, sd: 0 })
  assert.match(await readFile(plot ?? '', 'utf8'), /^<svg /)
})

test('several instances share the fleet, and send some requests beyond its slots', async () => {
  const figuresOf = async (instances: string) => {
    const options = `--requests 300 --seeds 1 --load 0.9 --policy earliest-finish ${instances} -o json`
    const { code, out, err } = await simulate(options)
    assert.equal(code, 0, err)
    const { instances: count, policies } = JSON.parse(out)
    return { count, beyondSlots: policies[0].beyond_slots.mean }
  }
  assert.deepEqual(await figuresOf('--instances 1'), { count: 1, beyondSlots: 0 })
  const { count, beyondSlots } = await figuresOf('--instances 3')
  assert.equal(count, 3)
  assert.ok(beyondSlots > 0.05 && beyondSlots < 1, `${beyondSlots}`)
  const { code, err } = await simulate('--instances 0')
  assert.equal(code, 2)
  assert.match(err, /1 to 100/)
})

test('the printed fleet is the one used without --fleet', async () => {
  const { out } = await simulate('--print-fleet')
  assert.deepEqual(readFleetPlan(out), readFleetPlan(defaultFleetText))
})

test('wrong files and names are refused in one line', async (t) => {
  const folder = await aFolder(t)
  const fleet = join(folder, 'fleet.yaml')
  await writeFile(fleet, 'nodes: []\n')
  for (const [options, said] of [
    [`--fleet ${fleet}`, /^error: .*nodes/],
    ['--trace /nowhere.csv', /^error: cannot read \/nowhere.csv/],
    ['--policy best', /^error: there is no policy best; take one of earliest-finish, /],
    ['--scenario flood', /^error: there is no scenario flood; take one of steady, /],
    ['--requests 10 --seeds 1 --policy weighted --plot /nowhere/p.svg', /^error: cannot write/],
  ] as const) {
    const { code, out, err } = await simulate(options)
    assert.equal(code, 6, err)
    assert.equal(out, '')
    assert.match(err, said)
  }
})

test('an interrupted rehearsal ends between two rounds', async () => {
  const interrupted = new AbortController()
  interrupted.abort()
  const { code, out } = await llamero('simulate', { ...context, signal: interrupted.signal })
  assert.equal(code, 130)
  assert.equal(out, '')
})
