import type { BarredAnswer, CandidateAnswer, OutlookAnswer } from '../../api/outlook.ts'
import { formatDuration } from '../../shared/duration.ts'
import { count } from '../terminal/format.ts'
import { type Column, type TableLook, table } from '../terminal/table.ts'

/** The places of a request with the terms of their cost, the cheapest first. */
export function candidateTable(
  { candidates, places }: Pick<OutlookAnswer, 'candidates' | 'places'>,
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

/** In the words of an operator; a state this CLI does not know yet is shown as it came. */
const states: Readonly<Record<string, string>> = {
  ready: 'slot free',
  full: 'no slot free',
  loading: 'being loaded',
  absent: 'to be loaded',
}

/** The nodes that cannot take a request, each with the reason. */
export function barredTable(barred: readonly BarredAnswer[], total: number, look: TableLook): string {
  const rest = total - barred.length
  return table(barredColumns, barred, look) + (rest > 0 ? `and ${count(rest, 'node')} more\n` : '')
}

const barredColumns: readonly Column<BarredAnswer>[] = [
  { title: 'NODE', cell: ({ node }) => node },
  { title: 'CANNOT TAKE IT SINCE', cell: (barred) => barrierText(barred) },
]

/** Why a node is passed over, in the words of an operator; a reason this CLI does not know yet is shown as it came. */
export function barrierText({
  excluded,
  health_reason: reason,
}: {
  readonly excluded: string | null
  readonly health_reason?: string
}): string {
  const text = barriers[excluded ?? ''] ?? excluded ?? 'it could'
  return excluded === 'down' && reason ? `${text}: ${reason}` : text
}

const barriers: Readonly<Record<string, string>> = {
  off: 'off',
  cordoned: 'cordoned',
  unknown: 'not looked at yet',
  down: 'down',
  weight: 'weight 0',
  labels: "the route's labels are not among its own",
  tried: 'it failed this request already',
  breaker: 'breaker open',
  'no-model': 'does not have the model',
  full: 'full',
  variant: 'its runner of the model is in use with other options',
  swap: 'changes what it has in memory',
  busy: 'asked for a pause',
}

/** For the help of whatever shows that table. */
export const termsHelp = `
Terms of a node's cost, in seconds: START until it has a slot, PREFILL to read the prompt, DECODE to write the answer,
OTHERS what it takes from other requests, EVICTION what it costs that another model leaves memory. COST is their weighted sum.`

function term(title: string, secondsOf: (candidate: CandidateAnswer) => number): Column<CandidateAnswer> {
  return { title, cell: (candidate) => `${secondsOf(candidate).toFixed(2)}s`, align: 'right' }
}

/** When a request is expected to start, and what it waits for until then. */
export function expectation(
  outlook: Pick<OutlookAnswer, 'refused' | 'waits_for' | 'starts_in_seconds'>,
): string {
  const { refused, waits_for, starts_in_seconds } = outlook
  if (refused) return `none: it would be refused at once, ${refusals[refused] ?? refused}`
  if (starts_in_seconds === null) return 'not known: no node can take it now'
  if (waits_for === null && starts_in_seconds === 0) return 'at once'
  const when = `in ${formatDuration(starts_in_seconds * 1000)}`
  return waits_for === null ? when : `${when}, when it has ${needs[waits_for] ?? waits_for}`
}

/** What a newcomer would be told; a reason that this CLI does not know yet is shown as it came. */
const refusals: Readonly<Record<string, string>> = {
  'queue-full': 'since as many wait as queue.max_length lets (429)',
  'tenant-full': 'since its tenant has as much work waiting as its limit allows (429)',
  'no-capacity': 'since it would wait for longer than its class may (503)',
  'no-node': 'since no node can serve it (503)',
  'load-failed': 'since its model could not be loaded just now, with the reason of that',
}

const needs: Readonly<Record<string, string>> = {
  slot: 'a slot',
  load: 'its model in memory',
  share: 'room that other tenants leave, as its own asks for much more than its share',
}
