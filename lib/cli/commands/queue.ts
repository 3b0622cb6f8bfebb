import type { Command } from 'commander'
import type { WaitingDetail } from '../../api/queue.ts'
import { formatDuration } from '../../shared/duration.ts'
import type { AdminClient } from '../admin-client.ts'
import { numberOption, type RequestOptions, withOutput, withTimeout, withYes } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { suggesting } from '../suggestion.ts'
import { table } from '../terminal/table.ts'
import { watching } from '../terminal/watch.ts'
import { termsHelp } from '../views/estimate-view.ts'
import { decisionColumns, queueView, waitingFacts } from '../views/queue-view.ts'

/** The longest list that the admin API returns. */
const mostRows = 1000

/** `llamero queue …`: the requests that wait in one instance, and where it sent the last ones. */
export function fillQueue(queue: Command, invocation: Invocation): void {
  withLimit(withOutput(withTimeout(queue.command('list'))))
    .alias('ls')
    .description('the waiting requests, in the order in which they will be served')
    .option('-w, --watch', 'refresh every two seconds')
    .addHelpText(
      'after',
      `
Examples:
  llamero queue list --watch
  llamero queue list -o wide --limit 20
  llamero queue list -o json | jq .by_tenant

Why one of them waits: llamero queue show ID. Where they went: llamero queue decisions.`,
    )
    .action((options) => list(invocation, options))
  withOutput(withTimeout(queue.command('show <id>')))
    .description('why a request waits: the nodes that could serve it, and the cost of each')
    .addHelpText('after', `${termsHelp}\n\nExample:\n  llamero queue show ID`)
    .action((id, options) => show(invocation, id, options))
  withYes(withTimeout(queue.command('cancel <id>')))
    .description('remove a request from the queue; its caller gets an error (503)')
    .addHelpText('after', '\nExample:\n  llamero queue cancel ID --yes')
    .action((id, options) => cancel(invocation, id, options))
  withLimit(withOutput(withTimeout(queue.command('decisions'))))
    .description(
      'where the last requests were sent and why, or why they were refused; predicted and actual time to the first token',
    )
    .option('--model <model>', 'only decisions for this model')
    .option('--tenant <tenant>', 'only decisions for this tenant')
    .option(
      '--outcome <outcome>',
      'only decisions with this outcome: answered, running, failed, left, no-capacity, ...',
    )
    .addHelpText(
      'after',
      `
The last 1000 requests that were sent are kept, and the last 1000 that were not. PREDICTED and ACTUAL are times from arrival to the
first token; ACTUAL is "-" when no token came, and for whole answers without timings of the node. INSTEAD OF: the best other nodes,
and their costs. OUTCOME of requests that were sent: running, answered, failed, left (the caller left before the end), busy (the node
had no slot); of the others: queue-full, tenant-full, no-capacity (would wait too long), waited-too-long, load-failed, no-node,
cancelled, left.

Examples:
  llamero queue decisions --model llama3.2:3b --limit 10
  llamero queue decisions --outcome no-capacity
  llamero queue decisions --tenant web -o json`,
    )
    .action((options) => decisions(invocation, options))
}

interface ListOptions extends RequestOptions {
  readonly limit: number
  readonly watch?: boolean
}

async function list(invocation: Invocation, { limit, watch, output, timeout }: ListOptions): Promise<void> {
  const { terminal } = invocation
  const admin = invocation.admin(timeout)
  const look = () => admin.get(`/queue?limit=${limit}`)
  if (watch)
    return watching(invocation, look, output, (queue, look) => queueView(queue, look) || 'nothing waits\n')
  const answer = await look()
  terminal.show(answer, output, (look) => queueView(answer, look))
  if (answer.total === 0)
    terminal.say(`nothing waits on instance ${answer.instance}`, 'llamero queue decisions')
}

async function show(invocation: Invocation, id: string, { output, timeout }: RequestOptions): Promise<void> {
  const waiting = await getWaiting(invocation.admin(timeout), id)
  invocation.terminal.show(waiting, output, (look) => waitingFacts(waiting, look))
}

interface CancelOptions {
  readonly timeout: number
  readonly yes?: boolean
}

async function cancel(invocation: Invocation, id: string, { timeout, yes }: CancelOptions): Promise<void> {
  const admin = invocation.admin(timeout)
  await invocation.consent(yes, async () => {
    const { model, tenant, waited_seconds } = await getWaiting(admin, id)
    return `Cancel this request of tenant ${tenant} for ${model}, which has waited ${formatDuration(waited_seconds * 1000)}?`
  })
  await known(admin, id, admin.send({ method: 'delete', path: pathOf(id) }))
  invocation.terminal.say(`${id}: cancelled`)
}

interface DecisionOptions extends RequestOptions {
  readonly limit: number
  readonly model?: string
  readonly tenant?: string
  readonly outcome?: string
}

async function decisions(invocation: Invocation, options: DecisionOptions): Promise<void> {
  const { limit, model, tenant, outcome, output, timeout } = options
  const { terminal, context } = invocation
  const query = new URLSearchParams({
    limit: String(limit),
    ...(model !== undefined && { model }),
    ...(tenant !== undefined && { tenant }),
    ...(outcome !== undefined && { outcome }),
  })
  const answer = await invocation.admin(timeout).get(`/decisions?${query}`)
  terminal.show(answer, output, (look) =>
    table(decisionColumns(context.clock.date()), answer.decisions, look),
  )
  if (answer.decisions.length === 0)
    terminal.say(`instance ${answer.instance} has no such request among its last ones`, 'llamero queue list')
}

function withLimit(command: Command): Command {
  return command.option('--limit <number>', 'most rows to show', numberOption(1, mostRows), 100)
}

function getWaiting(admin: AdminClient, id: string): Promise<WaitingDetail> {
  return known(admin, id, admin.get(pathOf(id)))
}

/** A request that is not in the queue has started or left, or its id is misspelt. */
function known<T>(admin: AdminClient, id: string, call: Promise<T>): Promise<T> {
  const ids = async () => (await admin.get(`/queue?limit=${mostRows}`)).waiting.map((each) => each.id)
  return suggesting(
    id,
    call,
    ids,
    'llamero queue list; those that started are in llamero queue decisions -o wide',
  )
}

function pathOf(id: string): `/queue/${string}` {
  return `/queue/${encodeURIComponent(id)}`
}
