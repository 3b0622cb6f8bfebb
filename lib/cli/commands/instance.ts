import type { Command } from 'commander'
import type { InstanceAnswer } from '../../api/instances.ts'
import { formatDuration } from '../../shared/duration.ts'
import type { AdminClient } from '../admin-client.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import {
  type RequestOptions,
  requestTimeoutMs,
  timeoutOption,
  withOutput,
  withTimeout,
  withYes,
} from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { suggesting } from '../suggestion.ts'
import { age } from '../terminal/format.ts'
import { type Column, table } from '../terminal/table.ts'
import { missingText } from '../views/instance-view.ts'
import { seenInstance, waitUntilIdle } from './drain.ts'

/** `llamero instance …`: the llamero processes of the cluster. */
export function fillInstance(instance: Command, invocation: Invocation): void {
  withOutput(withTimeout(instance.command('list')))
    .alias('ls')
    .description('all registered instances')
    .action((options) => list(invocation, options))
  instance
    .command('forget <id>')
    .description('forget an instance that ended and will not come back')
    .action((id) => forget(invocation, id))
  withYes(instance.command('step-down'))
    .description('hand leadership to another instance; --admin-url must name the leader')
    .option('--to <id>', 'the instance to lead next')
    .addOption(timeoutOption('how long to wait for the next leader', 10_000))
    .action((options) => stepDown(invocation, options))
  instance
    .command('drain [id]')
    .description('take the instance at --admin-url out of service, and wait until it is idle')
    .addOption(timeoutOption('how long to wait', 300_000))
    .option('--no-wait', 'take it out of service and return')
    .option('--cancel', 'put it back into service')
    .action((id, options) => drain(invocation, id, options))
}

async function list(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const { terminal, context } = invocation
  const answer = await invocation.admin(timeout).get('/instances')
  const { source = 'store', last_contact_seconds: silence, missing = [] } = answer
  const isCurrent = source === 'store'
  terminal.show(answer, output, (look) =>
    table(instanceColumns(context.clock.date(), isCurrent), answer.instances, look),
  )
  for (const each of missing) terminal.say(missingText(each))
  if (isCurrent) return
  terminal.say(
    silence === null
      ? 'warning: the store has not answered since the start: the other instances are unknown'
      : `warning: the store does not answer: the instances are the last known ones, ${formatDuration(silence * 1000)} ago`,
    'llamero status',
  )
}

function instanceColumns(now: Date, isCurrent: boolean): readonly Column<InstanceAnswer>[] {
  return [
    { title: 'ID', cell: ({ id }) => id },
    { title: 'ROLE', cell: ({ role }) => (role === 'leader' && !isCurrent ? 'last leader' : role) },
    { title: 'STATE', cell: ({ draining }) => (draining ? 'draining' : 'active') },
    { title: 'RUNNING', cell: ({ running }) => String(running), align: 'right' },
    { title: 'QUEUED', cell: ({ queued }) => String(queued), align: 'right' },
    { title: 'REVISION', cell: ({ revision }) => revision, align: 'right' },
    { title: 'VERSION', cell: ({ version }) => version },
    { title: 'UP', cell: ({ started }) => age(started, now) },
    { title: 'DATA', cell: ({ data }) => data, wide: true },
    { title: 'ADMIN', cell: ({ admin }) => admin, wide: true },
  ]
}

async function forget(invocation: Invocation, id: string): Promise<void> {
  const admin = invocation.admin(requestTimeoutMs)
  const path = `/instances/${encodeURIComponent(id)}` as const
  const ids = async () => (await admin.get('/instances')).missing.map((each) => each.id)
  await suggesting(id, admin.send({ method: 'delete', path }), ids, 'llamero instance list')
  invocation.terminal.say(`${id}: forgotten`)
}

interface StepDownOptions {
  readonly to?: string
  readonly timeout: number
  readonly yes?: boolean
}

async function stepDown(invocation: Invocation, { to, timeout, yes }: StepDownOptions): Promise<void> {
  const admin = invocation.admin(requestTimeoutMs)
  const { leader: former } = await admin.get('/status')
  if (!former) throw new CliFailure(exits.unavailable, 'no instance leads now', 'llamero status')
  await invocation.consent(yes, async () => `${former.id} leads; hand over to ${to ?? 'another instance'}?`)
  const path = `/instances/${encodeURIComponent(former.id)}/step-down` as const
  const order = admin.send({ method: 'post', path, body: to === undefined ? {} : { to } })
  await suggesting(to ?? former.id, order, () => idsOf(admin), 'llamero instance list')
  const leader = await nextLeader(invocation, admin, former.fence, timeout)
  if (to !== undefined && leader.id !== to)
    throw new CliFailure(
      exits.conflict,
      `${leader.id} leads now, fence ${leader.fence}, not ${to}`,
      'llamero instance list',
    )
  invocation.terminal.say(`${leader.id} leads now, fence ${leader.fence}; before: ${former.id}`)
}

/** Milliseconds between two requests for the next leader, which is elected within half a second (docs/etcd.md#faults). */
const lookEveryMs = 100

async function nextLeader({ context }: Invocation, admin: AdminClient, fence: string, timeoutMs: number) {
  const { clock, signal } = context
  const until = clock.now() + timeoutMs
  for (;;) {
    const { leader } = await admin.get('/status')
    if (leader && leader.fence !== fence) return leader
    if (clock.now() >= until)
      throw new CliFailure(
        exits.timedOut,
        `no instance leads after ${formatDuration(timeoutMs)}`,
        'llamero status',
      )
    await clock.sleep(lookEveryMs, signal)
  }
}

interface DrainOptions {
  readonly timeout: number
  readonly wait: boolean
  readonly cancel?: boolean
}

async function drain(
  invocation: Invocation,
  given: string | undefined,
  options: DrainOptions,
): Promise<void> {
  const { terminal, context } = invocation
  const admin = invocation.admin(requestTimeoutMs)
  const id = given ?? (await admin.get('/status')).instance.id
  const path = `/instances/${encodeURIComponent(id)}/drain` as const
  const order = admin.send({ method: options.cancel ? 'delete' : 'post', path })
  await suggesting(id, order, () => idsOf(admin), 'llamero instance list')
  if (options.cancel) return terminal.say(`${id}: in service again`)
  const undo = `llamero instance drain ${id} --cancel`
  if (!options.wait) return terminal.say(`${id}: draining`, undo)
  terminal.say(`${id}: draining; waiting up to ${formatDuration(options.timeout)} for its requests to end`)
  const { clock, signal } = context
  const tookMs = await waitUntilIdle({
    name: id,
    clock,
    signal,
    timeoutMs: options.timeout,
    look: async () => seenInstance(await instanceOf(admin, id)),
    progress: (line) => terminal.progress(line),
    late: { state: 'draining', hint: undo },
  }).catch((error) => {
    if (signal.aborted) terminal.say(`${id}: stays draining`, undo)
    throw error
  })
  terminal.say(`${id}: drained in ${formatDuration(tookMs)}`, undo)
}

async function instanceOf(admin: AdminClient, id: string): Promise<InstanceAnswer> {
  const { instances } = await admin.get('/instances')
  const found = instances.find((instance) => instance.id === id)
  if (!found)
    throw new CliFailure(exits.notFound, `instance ${id} is no longer registered`, 'llamero instance list')
  return found
}

async function idsOf(admin: AdminClient): Promise<string[]> {
  return (await admin.get('/instances')).instances.map(({ id }) => id)
}
