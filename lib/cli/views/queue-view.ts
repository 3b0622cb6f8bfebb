import type { DecisionAnswer } from '../../api/decisions.ts'
import type { ExcludedNode } from '../../api/estimate.ts'
import type { QueueAnswer, WaitingAnswer, WaitingDetail } from '../../api/queue.ts'
import { formatDuration } from '../../shared/duration.ts'
import { age, pairs } from '../terminal/format.ts'
import { type Column, facts, type TableLook, table } from '../terminal/table.ts'
import { candidateTable, excludedTable, exclusionText, expectation } from './estimate-view.ts'

/** The waiting requests in order, and their number per class and tenant. */
export function queueView(queue: QueueAnswer, look: TableLook): string {
  const { total, waiting, by_class, by_tenant, instance } = queue
  if (total === 0) return ''
  const shown = waiting.length < total ? `, the first ${waiting.length} shown` : ''
  const sums = facts(
    [
      ['waiting', `${total} on instance ${instance}${shown}`],
      ['by class', tally(by_class, look)],
      ['by tenant', tally(by_tenant, look)],
    ],
    look.colour,
  )
  return `${table(waitingColumns, waiting, look)}\n${sums}`
}

const waitingColumns: readonly Column<WaitingAnswer>[] = [
  { title: 'ID', cell: ({ id }) => id },
  { title: 'MODEL', cell: ({ model }) => model },
  { title: 'VARIANT', cell: ({ variant }) => variant || '-', wide: true },
  { title: 'TENANT', cell: ({ tenant }) => tenant },
  { title: 'CLASS', cell: (waiting) => waiting.class },
  { title: 'WAITED', cell: ({ waited_seconds }) => formatSeconds(waited_seconds), align: 'right' },
  { title: 'WAITS FOR', cell: waitsFor },
  { title: 'STARTS IN', cell: ({ starts_in_seconds }) => formatSeconds(starts_in_seconds), align: 'right' },
  { title: 'BEST', cell: bestOf, wide: true },
]

const shownObstacles = 2

function waitsFor({ waits_for, node, starts_in_seconds, excluded_nodes }: WaitingAnswer): string {
  if (waits_for === null && starts_in_seconds === null && excluded_nodes?.length)
    return `a node (${obstacles(excluded_nodes)})`
  if (waits_for === null) return '-'
  return node === null ? waits_for : `${waits_for} on ${node}`
}

/** The first few excluded nodes of a request, each with its reason. */
function obstacles(nodes: readonly ExcludedNode[]): string {
  const rest = nodes.length - shownObstacles
  const first = nodes.slice(0, shownObstacles)
  return (
    first.map(({ node, excluded }) => `${node}: ${exclusionText({ excluded })}`).join(', ') +
    (rest > 0 ? ', …' : '')
  )
}

/** The cheapest nodes. */
function bestOf({ candidates }: WaitingAnswer): string {
  const best = (candidates ?? []).slice(0, 3)
  return best.map(({ node, cost_seconds }) => `${node} ${formatSeconds(cost_seconds)}`).join(', ') || '-'
}

/** There may be as many tenants as requests. */
const shownNames = 8

function tally(counts: Readonly<Record<string, number>>, { wide }: TableLook): string {
  const all = Object.entries(counts)
  const shown = wide ? all : all.slice(0, shownNames)
  const rest = all.length - shown.length
  return pairs(Object.fromEntries(shown)).replaceAll(',', ', ') + (rest > 0 ? `, and ${rest} more` : '')
}

/** The details of one waiting request. */
export function waitingFacts(waiting: WaitingDetail, look: TableLook): string {
  const { id, model, variant, tenant, waited_seconds, position, instance, prompt_tokens, max_tokens } =
    waiting
  const head = facts(
    [
      ['id', id],
      ['model', model],
      ['variant', variant],
      ['tenant', tenant],
      ['class', waiting.class],
      ['position', `${position} on instance ${instance}`],
      ['waited', formatSeconds(waited_seconds)],
      ['waits for', waitsFor(waiting)],
      ['start', expectation(waiting)],
      ['prompt', `about ${prompt_tokens} tokens`],
      ['answer', max_tokens === null ? 'of any length' : `of at most ${max_tokens} tokens`],
      ['nodes', pairs(waiting.labels) && `those labelled ${pairs(waiting.labels)}`],
      ['failed on', waiting.failed_on.join(', ')],
    ],
    look.colour,
  )
  const { candidates, excluded_nodes, excluded_total } = waiting
  const places = candidates?.length ? `\n${candidateTable(waiting, look)}` : ''
  const others = excluded_nodes?.length
    ? `\n${excludedTable(excluded_nodes, excluded_total ?? excluded_nodes.length, look)}`
    : ''
  return head + (places + others || '\nno node can take it now: llamero node list\n')
}

/** Columns of `queue decisions`. @param now for ages. */
export function decisionColumns(now: Date): readonly Column<DecisionAnswer>[] {
  return [
    { title: 'AGE', cell: ({ decided }) => age(decided, now), align: 'right' },
    { title: 'ID', cell: ({ id }) => id, wide: true },
    { title: 'MODEL', cell: ({ model }) => model },
    { title: 'TENANT', cell: ({ tenant }) => tenant },
    { title: 'CLASS', cell: (decision) => decision.class, wide: true },
    { title: 'NODE', cell: ({ node }) => node ?? '-' },
    { title: 'REASON', cell: ({ reason }) => reason ?? '-' },
    { title: 'OUTCOME', cell: ({ outcome }) => outcome ?? '-' },
    {
      title: 'PREDICTED',
      cell: ({ predicted_ttft_seconds }) => formatSeconds(predicted_ttft_seconds),
      align: 'right',
    },
    {
      title: 'ACTUAL',
      cell: ({ actual_ttft_seconds }) => formatSeconds(actual_ttft_seconds),
      align: 'right',
    },
    {
      title: 'COST',
      cell: ({ candidates: [chosen] }) => formatSeconds(chosen?.cost_seconds ?? null),
      align: 'right',
    },
    { title: 'INSTEAD OF', cell: insteadOf },
  ]
}

/** The other nodes, each with its cost. */
function insteadOf({ candidates: [, ...others] }: DecisionAnswer): string {
  return others.map(({ node, cost_seconds }) => `${node} ${formatSeconds(cost_seconds)}`).join(', ') || '-'
}

function formatSeconds(seconds: number | null): string {
  if (seconds === null) return '-'
  return seconds < 1 ? `${Math.round(seconds * 1000)}ms` : formatDuration(seconds * 1000)
}
