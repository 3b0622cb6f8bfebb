import type { CandidateAnswer, EstimateAnswer, ExcludedNode } from '../../api/estimate.ts'
import { formatDuration } from '../../shared/duration.ts'
import { count } from '../terminal/format.ts'
import { type Column, type TableLook, table } from '../terminal/table.ts'

/** The nodes that could serve a request, with the terms of their cost, the cheapest first. */
export function candidateTable(
  { candidates, places }: Pick<EstimateAnswer, 'candidates' | 'places'>,
  look: TableLook,
): string {
  const shown = candidates ?? []
  const rest = (places ?? 0) - shown.length
  return table(candidateColumns, shown, look) + (rest > 0 ? `and ${count(rest, 'node')} more\n` : '')
}

const candidateColumns: readonly Column<CandidateAnswer>[] = [
  { title: 'NODE', cell: ({ node }) => node },
  { title: 'STATE', cell: ({ state }) => states[state] ?? state },
  term('START', (candidate) => candidate.start_seconds),
  term('PREFILL', (candidate) => candidate.prefill_seconds),
  term('DECODE', (candidate) => candidate.decode_seconds),
  term('OTHERS', (candidate) => candidate.externality_seconds),
  term('EVICTION', (candidate) => candidate.eviction_seconds),
  term('COST', (candidate) => candidate.cost_seconds),
]

/** A state that this CLI does not know yet is shown as received. */
const states: Readonly<Record<string, string>> = {
  ready: 'slot free',
  full: 'no slot free',
  loading: 'being loaded',
  absent: 'to be loaded',
}

/** The nodes that cannot take a request, each with the reason. */
export function excludedTable(nodes: readonly ExcludedNode[], total: number, look: TableLook): string {
  const rest = total - nodes.length
  return table(excludedColumns, nodes, look) + (rest > 0 ? `and ${count(rest, 'node')} more\n` : '')
}

const excludedColumns: readonly Column<ExcludedNode>[] = [
  { title: 'NODE', cell: ({ node }) => node },
  { title: 'CANNOT TAKE IT BECAUSE', cell: (node) => exclusionText(node) },
]

/** Why a node is excluded. A reason that this CLI does not know yet is shown as received. */
export function exclusionText({
  excluded,
  health_reason: reason,
}: {
  readonly excluded: string | null
  readonly health_reason?: string
}): string {
  const text = exclusionTexts[excluded ?? ''] ?? excluded ?? 'can take it'
  return excluded === 'down' && reason ? `${text}: ${reason}` : text
}

const exclusionTexts: Readonly<Record<string, string>> = {
  off: 'off',
  cordoned: 'cordoned',
  unknown: 'not probed yet',
  down: 'down',
  weight: 'weight 0',
  labels: 'lacks a label that the route requires',
  tried: 'has failed this request already',
  capability: 'its Ollama cannot do this with the model',
  breaker: 'breaker open',
  frozen: 'frozen: it accepts connections and answers nothing',
  refused: 'it refuses connections',
  'no-model': 'does not have the model',
  full: 'full',
  variant: 'its runner of the model is in use with other options',
  swap: 'loads or unloads another model',
  busy: 'busy: it asked for a pause',
}

/** Help of the commands that print `candidateTable`. */
export const termsHelp = `
Terms of a node's cost, in seconds: START until it has a slot, PREFILL to read the prompt, DECODE to write the answer,
OTHERS by which it slows other requests, EVICTION to load an evicted model again. COST is their weighted sum.`

function term(title: string, secondsOf: (candidate: CandidateAnswer) => number): Column<CandidateAnswer> {
  return { title, cell: (candidate) => `${secondsOf(candidate).toFixed(2)}s`, align: 'right' }
}

/** When a request is expected to start, and what it waits for until then. */
export function expectation(
  estimate: Pick<EstimateAnswer, 'refused' | 'waits_for' | 'starts_in_seconds'>,
): string {
  const { refused, waits_for, starts_in_seconds } = estimate
  if (refused) return `none: refused at once, ${refusals[refused] ?? refused}`
  if (starts_in_seconds === null) return 'not known: no node can take it now'
  if (waits_for === null && starts_in_seconds === 0) return 'at once'
  const when = `in ${formatDuration(starts_in_seconds * 1000)}`
  return waits_for === null ? when : `${when}, when it has ${needs[waits_for] ?? waits_for}`
}

/** Why a new request would be refused. A reason that this CLI does not know yet is shown as received. */
const refusals: Readonly<Record<string, string>> = {
  'queue-full': 'because queue.max_length requests wait already (429)',
  'tenant-full': 'because its tenant has as much work waiting as its limit allows (429)',
  'no-capacity': 'because it would wait longer than its class may (503)',
  'no-node': 'because no node can serve it (503)',
  'load-failed': 'because its model could not be loaded just now (503)',
}

const needs: Readonly<Record<string, string>> = {
  slot: 'a slot',
  load: 'its model in memory',
  share: 'capacity beyond the share of its tenant',
}
