import type { Command } from 'commander'
import type { JobAnswer } from '../../api/jobs.ts'
import { isStoreName, storeNameRule } from '../../fleet/documents/names.ts'
import { isOver } from '../../fleet/job.ts'
import type { AdminClient } from '../admin-client.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { type RequestOptions, withOutput, withTimeout } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { suggesting } from '../suggestion.ts'
import { table } from '../terminal/table.ts'
import { jobColumns, jobFacts } from '../views/job-view.ts'
import { followJob } from './job-follow.ts'

/** `llamero model jobs` and `llamero model cancel`: jobs that change models. */
export function addModelJobs(model: Command, invocation: Invocation): void {
  withOutput(withTimeout(model.command('jobs [id]')))
    .description('jobs that change models, or the details of one job')
    .option('-a, --all', 'include ended jobs')
    .option('-w, --watch', 'follow the job until it ends')
    .addHelpText(
      'after',
      `
Examples:
  llamero model jobs --all
  llamero model jobs ID
  llamero model jobs ID --watch`,
    )
    .action((id, options) => (id === undefined ? list(invocation, options) : show(invocation, id, options)))
  withTimeout(model.command('cancel <id>'))
    .description('cancel a job; what nodes have done by then stays')
    .action((id, options) => cancel(invocation, id, options))
}

interface JobsOptions extends RequestOptions {
  readonly all?: boolean
  readonly watch?: boolean
}

async function list(invocation: Invocation, { all, watch, output, timeout }: JobsOptions): Promise<void> {
  const { terminal, context } = invocation
  if (watch) throw new CliFailure(exits.usage, '--watch follows one job', 'llamero model jobs ID --watch')
  const answer = await invocation.admin(timeout).get('/jobs')
  const jobs = all ? answer.jobs : answer.jobs.filter(({ state }) => !isOver(state))
  terminal.show({ ...answer, jobs }, output, (look) => table(jobColumns(context.clock.date()), jobs, look))
  if (jobs.length > 0) return
  if (all) terminal.say('no jobs yet', 'llamero model pull MODEL')
  else terminal.say('no job is running', 'llamero model jobs --all')
}

async function show(
  invocation: Invocation,
  id: string,
  { all, watch, output, timeout }: JobsOptions,
): Promise<void> {
  if (all) throw new CliFailure(exits.usage, '--all is for the list of jobs', `llamero model jobs ${id}`)
  const admin = invocation.admin(timeout)
  const job = await getJob(admin, id)
  if (watch) return followJob(invocation, admin, id, output)
  const now = invocation.context.clock.date()
  invocation.terminal.show(job, output, (look) => jobFacts(job, now, look))
}

async function cancel(invocation: Invocation, id: string, { timeout }: RequestOptions): Promise<void> {
  const { terminal } = invocation
  const admin = invocation.admin(timeout)
  const { state } = await getJob(admin, id)
  if (isOver(state)) return terminal.say(`${id}: has ended already: ${state}`)
  await admin.send({ method: 'delete', path: `/jobs/${id}` })
  terminal.say(`${id}: is being cancelled`, `llamero model jobs ${id}`)
}

/** Ids become part of a URL. @throws Failure (usage, or not found with a suggestion) */
async function getJob(admin: AdminClient, id: string): Promise<JobAnswer> {
  if (!isStoreName(id))
    throw new CliFailure(exits.usage, `"${id}" cannot be the id of a job: ${storeNameRule}`)
  const known = async () => (await admin.get('/jobs')).jobs.map((job) => job.id)
  return suggesting(id, admin.get(`/jobs/${id}`), known, 'llamero model jobs --all')
}
