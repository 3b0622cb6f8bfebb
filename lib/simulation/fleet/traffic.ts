import type { Prefix } from '../../fleet/request-spec.ts'
import type { Random } from '../../shared/random.ts'
import { pickByWeight } from './chance.ts'
import type { PlannedModel } from './fleet-plan.ts'
import type { TraceRow } from './trace.ts'

/** One request of a rehearsal. */
export interface TrafficRequest {
  readonly id: string
  /** Seconds. */
  readonly at: number
  readonly model: string
  readonly tenant: string
  readonly promptTokens: number
  readonly outputTokens: number
  readonly conversation: number
  /** Its conversation as the trace names it; null when the trace does not. */
  readonly session: string | null
  readonly reusableTokens: number
  readonly prefixes: readonly Prefix[]
}

/** See docs/routing.md#results. */
const tenantShares = [55, 25, 15, 5] as const
const continuing = 0.6
/** A turn continues one of this many conversations, the most recent ones. */
const openConversations = 100
/** At least a quarter of a prompt is new, where the trace does not say how much. */
const mostReusable = 0.75
/** Prompts are made of messages of this many tokens: traces with sessions compare prompts by these blocks. */
const messageTokens = 512

interface Turn {
  readonly conversation: number
  readonly model: string
  readonly tenant: string
  /** Of the prompt and its answer. */
  readonly tokens: number
  readonly prefixes: readonly Prefix[]
}

/**
 * Makes requests of a trace's rows. A request continues an earlier conversation as the trace says, else with a probability of
 * three in five; the others begin one, with a random tenant and model. Times are those of the trace.
 */
export function requestsOf(
  rows: readonly TraceRow[],
  models: readonly PlannedModel[],
  random: Random,
): TrafficRequest[] {
  const bySession = new Map<string, Turn>()
  const open: Turn[] = []
  const shares = models.map(({ share }) => share)
  let messages = 0
  return rows.map((row, index) => {
    const earlier = earlierTurn(row)
    const conversation = earlier?.conversation ?? index
    const model = earlier?.model ?? models[pickByWeight(random, shares)]?.name ?? ''
    const tenant = earlier?.tenant ?? `tenant-${pickByWeight(random, tenantShares) + 1}`
    const { promptTokens, outputTokens } = row
    const reusableTokens = earlier ? reusable(row, earlier) : 0
    const known = (earlier?.prefixes ?? []).filter(({ tokens }) => tokens <= reusableTokens)
    const prefixes = [...known, ...newMessages(known.at(-1)?.tokens ?? 0, promptTokens)]
    const turn: Turn = { conversation, model, tenant, tokens: promptTokens + outputTokens, prefixes }
    remember(row, turn)
    return {
      id: `r${index + 1}`,
      at: row.at,
      model,
      tenant,
      promptTokens,
      outputTokens,
      conversation,
      session: row.session,
      reusableTokens,
      prefixes,
    }
  })

  function earlierTurn({ session }: TraceRow): Turn | undefined {
    if (session !== null) return bySession.get(session)
    if (random() >= continuing) return undefined
    return open[Math.floor(random() * open.length)]
  }

  function newMessages(from: number, to: number): Prefix[] {
    const count = Math.ceil((to - from) / messageTokens)
    return Array.from({ length: count }, (_, nth) => ({
      hash: ++messages,
      tokens: Math.min(to, from + (nth + 1) * messageTokens),
    }))
  }

  function remember({ session }: TraceRow, turn: Turn): void {
    if (session !== null) {
      bySession.set(session, turn)
      return
    }
    const at = open.findIndex(({ conversation }) => conversation === turn.conversation)
    if (at >= 0) open.splice(at, 1)
    open.push(turn)
    if (open.length > openConversations) open.shift()
  }
}

function reusable({ promptTokens, reusableTokens }: TraceRow, { tokens }: Turn): number {
  if (reusableTokens !== null) return Math.min(reusableTokens, promptTokens - 1)
  return Math.floor(Math.min(tokens, mostReusable * promptTokens))
}

/** The same requests at this mean rate. */
export function atRate(requests: readonly TrafficRequest[], perSecond: number): TrafficRequest[] {
  const first = requests[0]?.at ?? 0
  const span = (requests.at(-1)?.at ?? 0) - first
  const factor = span > 0 ? requests.length / perSecond / span : 0
  return requests.map((request) => ({ ...request, at: (request.at - first) * factor }))
}
