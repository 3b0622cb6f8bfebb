import type { Policy } from '../../lib/fleet/policies.ts'
import { Core } from '../../lib/scheduler/core.ts'
import type {
  Effect,
  NodeFacts,
  RunnerFacts,
  SchedulerEvent,
  SchedulingRequest,
  Timings,
} from '../../lib/scheduler/events.ts'
import { type Abilities, defaultParameters, type Parameters } from '../../lib/scheduler/parameters.ts'
import type { Random } from '../../lib/shared/random.ts'

const giga = 1e9

/** Parameters that a test changes, by group; the rest of each group keeps its defaults. */
export type Changes = { readonly [Group in keyof Parameters]?: Partial<Parameters[Group]> }

export function someParameters(changes: Changes = {}): Parameters {
  const groups = Object.entries(changes).map(([group, change]) => [
    group,
    typeof change === 'object'
      ? { ...(defaultParameters[group as keyof Parameters] as object), ...change }
      : change,
  ])
  return { ...defaultParameters, ...Object.fromEntries(groups) }
}

/** A core that runs a pass after every event, on a clock that the test moves. */
export function aCore(
  nodes: readonly NodeFacts[],
  changes: Changes = {},
  policy: Policy = 'earliest-finish',
  random: Random = () => 0.5,
) {
  const core = new Core({ policy, parameters: someParameters(changes), random })
  const clock = { now: 1000 }
  const startedAt = new Map<string, number>()
  const tell = (...events: readonly SchedulerEvent[]): Effect[] => {
    for (const event of events) core.take(event, clock.now)
    const effects = core.pass(clock.now)
    for (const effect of effects) if (effect.type === 'start') startedAt.set(effect.id, clock.now)
    return effects
  }
  tell({ type: 'fleet', nodes })
  return {
    core,
    clock,
    tell,
    /** Advances the clock by so many seconds, and sends a tick. */
    after: (seconds: number, ...events: readonly SchedulerEvent[]) => {
      clock.now += seconds
      return tell({ type: 'tick' }, ...events)
    },
    arrive: (...requests: readonly Partial<SchedulingRequest>[]) =>
      tell(
        ...requests.map(
          (request) =>
            ({ type: 'arrived', request: aRequest({ arrivedAt: clock.now, ...request }) }) as const,
        ),
      ),
    /** Ends an answered request; the clock advances to its reported duration if needed. */
    end: (id: string, timings: Partial<Timings> = {}) => {
      const told = someTimings(timings)
      clock.now = Math.max(clock.now, (startedAt.get(id) ?? 0) + told.total)
      return tell({ type: 'ended', id, timings: told })
    },
  }
}

export function aRequest(request: Partial<SchedulingRequest> = {}): SchedulingRequest {
  return {
    id: 'r',
    model: 'a',
    variant: '',
    tenant: 'tenant',
    class: 'normal',
    promptTokens: 1000,
    maxTokens: 100,
    embeds: false,
    prefixes: [],
    labels: {},
    tried: new Set(),
    arrivedAt: 1000,
    ...request,
  }
}

/** A node with 24 GB and one slot; `loaded` names the models in memory. Sizes in GB. */
export function aNode(
  facts: Partial<Omit<NodeFacts, 'models' | 'resident'>> & {
    readonly models?: Readonly<Record<string, number>>
    readonly loaded?: readonly string[]
  } = {},
): NodeFacts {
  const { models = { a: 5 }, loaded = ['a'], ...rest } = facts
  return {
    name: 'n',
    available: true,
    weight: 1,
    labels: {},
    slots: 1,
    memory: 24 * giga,
    maxLoaded: 3,
    ...rest,
    models: new Map(Object.entries(models).map(([name, size]) => [name, size * giga])),
    resident: loaded.map((model) => aResident({ model, size: (models[model] ?? 0) * giga })),
  }
}

export function aResident(facts: Partial<RunnerFacts> & { readonly model: string }): RunnerFacts {
  const size = facts.size ?? 5 * giga
  return { variant: '', size, sizeVram: size, contextLength: 4096, ...facts }
}

/** Timings of a request with 1000 prompt and 100 output tokens, without a wait, at the speed of the priors. */
export function someTimings(timings: Partial<Timings> = {}): Timings {
  const { load = 0, promptEval = 1000 / 1500, eval: decode = 100 / 60 } = timings
  return {
    load,
    promptEval,
    eval: decode,
    total: load + promptEval + decode,
    promptTokens: 1000,
    outputTokens: 100,
    ...timings,
  }
}

/** Effects as short text, for comparison. */
export function briefly(effects: readonly Effect[]): string[] {
  return effects.map((effect) => {
    if (effect.type === 'start') return `${effect.id} on ${effect.node}`
    if (effect.type === 'refuse') return `${effect.id} ${effect.reason}`
    return `${effect.node}: ${effect.victims.join('+') || 'nothing'} for ${effect.model}`
  })
}

/** Parameters without one ability. */
export const without = (ability: keyof Abilities): Changes => ({ uses: { [ability]: false } })
