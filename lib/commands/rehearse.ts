import { readFile, writeFile } from 'node:fs/promises'
import type { RehearsalRequest } from '../cli/cli-context.ts'
import { type Policy, policies } from '../fleet/policies.ts'
import { Core } from '../scheduler/core.ts'
import { defaultParameters } from '../scheduler/parameters.ts'
import { messageOf, ProxyError } from '../shared/errors.ts'
import { type Comparison, type Contestant, compare, type Figure } from '../simulation/fleet/comparison.ts'
import { defaultFleetText, readFleetPlan } from '../simulation/fleet/fleet-plan.ts'
import { plot } from '../simulation/fleet/plot.ts'
import { type Scenario, scenarios } from '../simulation/fleet/scenario.ts'
import { readTrace } from '../simulation/fleet/trace.ts'

/** The yardstick: llamero's policy on nodes that hold every model that fits there alone in memory (docs/routing.md#results). */
export const reference = 'reference'

/**
 * Rehearses traffic on a simulated fleet, with the scheduler that serves a real fleet.
 *
 * @param onRound awaited before each round of a policy; a round takes up to seconds.
 * @throws ProxyError `invalid` when a file or a name is wrong.
 */
export async function rehearse(
  request: RehearsalRequest,
  onRound: (policy: string, round: number) => Promise<void>,
) {
  const { load, requests, patience, ttft, pace } = request
  const scenario = oneOf(scenarios, request.scenario, 'scenario')
  const names = request.policies.length > 0 ? request.policies : [...policies, reference]
  const fleet = readFleetPlan(request.fleet === undefined ? defaultFleetText : await read(request.fleet))
  const trace = request.trace === undefined ? null : readTrace(await read(request.trace))
  const seeds = Array.from({ length: request.seeds }, (_, at) => at + 1)
  const goal = { ttft, pace }
  const options = { fleet, trace, load, requests, scenario, patience, seeds, goal }
  const comparison = await compare(
    options,
    names.map((name) => ({ ...contestant(name), instances: request.instances })),
    onRound,
  )
  if (request.plot !== undefined) {
    const title = `load ${load}, ${requests} requests${scenario === 'steady' ? '' : `, ${scenario}`}`
    await write(request.plot, plot(comparison.curves, title))
  }
  return reportOf(request, scenario, comparison)
}

/** A policy, or the yardstick, by its name; `parameters` are those of the scheduler's core. @throws ProxyError `invalid` */
export function contestant(name: string, parameters = defaultParameters): Contestant {
  const allResident = name === reference
  const policy: Policy = allResident ? 'earliest-finish' : oneOf(policies, name, 'policy')
  return {
    name,
    allResident,
    instances: 1,
    deciderOf: (random) => new Core({ policy, parameters, random }),
  }
}

function reportOf(request: RehearsalRequest, scenario: Scenario, { standings }: Comparison) {
  const { fleet = null, trace = null, load, requests, seeds, instances, patience, ttft, pace } = request
  return {
    fleet,
    trace,
    load,
    requests,
    seeds,
    scenario,
    instances,
    patience_seconds: patience,
    goal: { ttft_seconds: ttft, tokens_per_second: pace },
    policies: standings.map(({ policy, figures, tenantSlo }) => ({
      policy,
      slo: rounded(figures.slo),
      ttft_p50_seconds: rounded(figures.ttftP50),
      ttft_p95_seconds: rounded(figures.ttftP95),
      ttft_p99_seconds: rounded(figures.ttftP99),
      e2e_mean_seconds: rounded(figures.e2eMean),
      e2e_p95_seconds: rounded(figures.e2eP95),
      loads: rounded(figures.loads),
      unordered_loads: rounded(figures.unorderedLoads),
      beyond_slots: rounded(figures.beyondSlots),
      refused: rounded(figures.refused),
      failed: rounded(figures.failed),
      worst_tenant_slo: rounded(figures.worstTenantSlo),
      tenant_slo: Object.fromEntries(
        Object.entries(tenantSlo).map(([tenant, figure]) => [tenant, rounded(figure)]),
      ),
    })),
  }
}

function rounded({ mean, sd }: Figure): Figure {
  const round = (value: number) => Math.round(value * 1e4) / 1e4
  return { mean: round(mean), sd: round(sd) }
}

function oneOf<Name extends string>(names: readonly Name[], name: string, kind: string): Name {
  const found = names.find((each) => each === name)
  if (found === undefined) {
    const reason = `there is no ${kind} ${name}; take one of ${names.join(', ')}`
    throw new ProxyError('invalid', { reason })
  }
  return found
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new ProxyError('invalid', { reason: `cannot read ${file}: ${messageOf(error)}` })
  }
}

async function write(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text)
  } catch (error) {
    throw new ProxyError('invalid', { reason: `cannot write ${file}: ${messageOf(error)}` })
  }
}
