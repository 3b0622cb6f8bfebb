import type { Command } from 'commander'
import { formatDuration } from '../shared/duration.ts'
import type { RejectedDocument, StatusAnswer } from './answers.ts'
import { count } from './format.ts'
import type { Invocation } from './invocation.ts'
import { type RequestOptions, withOutput, withTimeout } from './options.ts'
import { facts, type Look, printable } from './table.ts'

/** `llamero status`: the whole cluster on one screen. */
export function addStatusCommand(program: Command, invocation: Invocation): void {
  withOutput(withTimeout(program.command('status')))
    .description('the cluster at a glance')
    .action((options) => status(invocation, options))
}

async function status(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const answer = await invocation.admin(timeout).get<StatusAnswer>('/status')
  invocation.terminal.show(answer, output, (look) => view(answer, look))
  if (answer.nodes.total === 0)
    invocation.terminal.say('no nodes yet', 'llamero node add NAME http://HOST:11434')
}

function view(answer: StatusAnswer, { colour }: Look): string {
  const { cluster, version, instance, leader, nodes, models, requests, config } = answer
  const lines = facts(
    [
      ['cluster', `${cluster}, ${count(answer.instances, 'instance')}, llamero ${version}`],
      ['instance', instanceLine(instance)],
      ['leader', leader ? `${leader.id}, fence ${leader.fence}` : 'unknown'],
      ['store', storeLine(answer.store)],
      ['config', `revision ${config.revision}, ${count(config.rejected.length, 'document')} rejected`],
      ['nodes', `${nodes.total}: ${nodes.up} up, ${nodes.down} down, ${nodes.cordoned} cordoned`],
      ['models', `${models.on_disk} on disk, ${models.loaded} loaded`],
      ['requests', `${requests.running} running, ${requests.queued} queued`],
    ],
    colour,
  )
  return lines + config.rejected.map(rejection).join('')
}

function instanceLine({ id, role, uptime_seconds, draining }: StatusAnswer['instance']): string {
  return `${id}, ${draining ? 'draining, ' : ''}${role}, up ${formatDuration(uptime_seconds * 1000)}`
}

function storeLine({ kind, ok, last_contact_seconds: silence }: StatusAnswer['store']): string {
  if (ok) return `ok, ${kind}`
  const since = silence === null ? 'never reached' : `last contact ${formatDuration(silence * 1000)} ago`
  return `unreachable, ${kind}, ${since}; requests go on with the last config`
}

/** The faults of a document whose last good version stays in force. */
function rejection({ key, errors }: RejectedDocument): string {
  const lines = errors.map(({ path, line, message, hint }) => {
    const where = [line === null ? '' : `line ${line}: `, path ? `${path}: ` : ''].join('')
    return `  ${printable(`${where}${message}${hint ? ` (${hint})` : ''}`)}\n`
  })
  return `rejected: ${printable(key)}\n${lines.join('')}`
}
