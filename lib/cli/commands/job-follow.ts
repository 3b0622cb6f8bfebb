import type { JobAnswer } from '../../api/jobs.ts'
import { isOver, type JobState } from '../../fleet/job.ts'
import { formatDuration } from '../../shared/duration.ts'
import type { AdminClient } from '../admin-client.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import type { Output } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { JobDisplay } from '../terminal/job-display.ts'

/** Milliseconds between two requests for a job. */
const lookEveryMs = 500
/** How long an instance may be out of reach, or not know the job yet, before following it fails. */
const patienceMs = 30_000

/**
 * Shows the progress of a job until it ends, then prints it. Ctrl-C does not stop the job, and a message says so.
 *
 * @throws Failure when it failed on a node, with the reason of each; `unavailable` when no instance answers for long.
 */
export async function followJob(
  invocation: Invocation,
  admin: AdminClient,
  id: string,
  output: Output,
): Promise<void> {
  const { terminal, context } = invocation
  const job = await untilOver(invocation, admin, id).catch((error) => {
    if (context.signal.aborted)
      terminal.say(
        `job ${id} goes on; to follow it again: llamero model jobs ${id} --watch`,
        `llamero model cancel ${id}`,
      )
    throw error
  })
  terminal.show(job, output, () => '')
  if (job.state !== 'done') throw failureOf(job)
  const where = nodesIn(job, 'done').join(', ')
  const tookMs = Date.parse(job.ended ?? '') - Date.parse(job.created)
  const took = tookMs >= 1000 ? ` in ${formatDuration(tookMs)}` : ''
  terminal.say(`${job.model}: ${pastOf(job.action)} ${where}${took}`)
}

async function untilOver(invocation: Invocation, admin: AdminClient, id: string): Promise<JobAnswer> {
  const { terminal, context } = invocation
  const { clock, signal } = context
  const display = new JobDisplay(terminal, clock)
  let seenAt = clock.now()
  for (;;) {
    try {
      const job = await admin.get(`/jobs/${id}`)
      seenAt = clock.now()
      display.show(job)
      if (isOver(job.state)) return job
    } catch (error) {
      if (!(error instanceof CliFailure) || !mayPass(error)) throw error
      if (clock.now() - seenAt >= patienceMs)
        throw new CliFailure(error.exit, error.message, `llamero model jobs ${id} --watch`, { cause: error })
    }
    await clock.sleep(lookEveryMs, signal)
  }
}

/** An instance learns of a new job from the store, a moment after the caller got the job's id. */
function mayPass({ exit }: CliFailure): boolean {
  return exit === exits.unavailable || exit === exits.notFound
}

/** What failed on which nodes, and the next command. */
function failureOf(job: JobAnswer): CliFailure {
  const { id, action, model, state, nodes } = job
  const failed = nodesIn(job, 'failed')
  const byReason = Map.groupBy(failed, (name) => nodes[name]?.error ?? 'it did not say why')
  const parts = [
    ...[...byReason].map(([reason, names]) => `${wordOf(action)} failed on ${names.join(', ')}: ${reason}`),
    ...(failed.length === 0 ? [`job ${id} was ${state}`] : []),
    ...namedIn(job, 'cancelled', 'cancelled on'),
    ...namedIn(job, 'done', 'done on'),
  ]
  return new CliFailure(exits.failure, `${model}: ${parts.join('; ')}`, nextCommand(job))
}

/** A job that names all its fields can be repeated on the nodes that failed; for others the hint shows the failed node. */
function nextCommand(job: JobAnswer): string {
  const { id, action, model, nodes } = job
  const left = Object.keys(nodes).filter((name) => nodes[name]?.state !== 'done')
  if (left.length > 0 && ['pull', 'delete', 'unload'].includes(action))
    return `llamero model ${wordOf(action)} ${model} --nodes ${left.join(',')}`
  const [failed] = nodesIn(job, 'failed')
  return failed === undefined ? `llamero model jobs ${id}` : `llamero node show ${failed}`
}

function nodesIn({ nodes }: JobAnswer, state: JobState): string[] {
  return Object.keys(nodes).filter((name) => nodes[name]?.state === state)
}

function namedIn(job: JobAnswer, state: JobState, words: string): string[] {
  const names = nodesIn(job, state)
  return names.length > 0 ? [`${words} ${names.join(', ')}`] : []
}

/** The command for an action. */
function wordOf(action: string): string {
  return action === 'delete' ? 'rm' : action
}

const past: Readonly<Record<string, string>> = {
  pull: 'pulled to',
  push: 'pushed from',
  create: 'created on',
  copy: 'copied on',
  delete: 'removed from',
  load: 'loaded on',
  unload: 'unloaded from',
}

/** An action that this CLI does not know yet keeps its name. */
function pastOf(action: string): string {
  return past[action] ?? `${action} done on`
}
