import type { Command } from 'commander'
import type { RejectedDocument } from '../../api/documents.ts'
import type { StatusAnswer } from '../../api/status.ts'
import { formatDuration } from '../../shared/duration.ts'
import { type RequestOptions, withOutput, withTimeout } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { count } from '../terminal/format.ts'
import { facts, printable, type TableLook } from '../terminal/table.ts'
import { missingText } from '../views/instance-view.ts'
import { marksOf } from '../views/node-view.ts'

/** `llamero status`: the whole cluster on one screen. */
export function fillStatus(command: Command, invocation: Invocation): void {
  withOutput(withTimeout(command)).action((options) => status(invocation, options))
}

async function status(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const answer = await invocation.admin(timeout).get('/status')
  invocation.terminal.show(answer, output, (look) => view(answer, look))
  const { problem } = answer.store
  if (problem)
    invocation.terminal.say(
      `warning: the store takes no changes: ${problem.reason}; requests go on`,
      problem.remedy,
    )
  else if (!answer.store.ok)
    invocation.terminal.say(
      'warning: the store does not answer: requests go on, changes are refused until it does',
      answer.store.remedy ?? undefined,
    )
  if (answer.config.suspect !== null)
    invocation.terminal.say(
      `warning: the store is suspect, and its documents are not put in force: ${answer.config.suspect}`,
      'restore the store, or accept it as it is: llamero config accept',
    )
  const { missing = [] } = answer
  if (missing.length > 0)
    invocation.terminal.say(
      `warning: ${missing.map(missingText).join('; ')}`,
      `see there: systemctl status llamero, and start it again; or forget it: llamero instance forget ${missing[0]?.id}`,
    )
  for (const warning of answer.warnings ?? []) invocation.terminal.say(`warning: ${printable(warning)}`)
  if (answer.nodes.total === 0)
    invocation.terminal.say('no nodes yet', 'llamero node add NAME http://HOST:11434')
}

function view(answer: StatusAnswer, { colour, wide }: TableLook): string {
  const { cluster, version, instance, nodes, models, requests, config } = answer
  const lines = facts(
    [
      ['cluster', `${cluster}, ${instancesOf(answer)}, llamero ${version}`],
      ['instance', instanceLine(instance)],
      ['leader', leaderLine(answer)],
      ...(wide ? [['terms', termsLine(answer)] as const] : []),
      ['store', storeLine(answer)],
      ['config', configLine(answer)],
      ['nodes', nodesLine(answer)],
      ['models', `${models.on_disk} on disk, ${models.loaded} loaded`],
      [
        'requests',
        `${requests.running} running, ${requests.queued} queued${isCurrent(answer) ? '' : '; of this instance alone'}`,
      ],
    ],
    colour,
  )
  return [
    lines,
    unwell(nodes),
    recovering(nodes),
    departures(nodes),
    differences(models),
    rejections(config),
    warned(config),
  ].join('')
}

/** Whether leader and instances are as the store tells them now. */
function isCurrent({ source = 'store' }: StatusAnswer): boolean {
  return source === 'store'
}

/** How old it is what the store told last. */
function asLastKnown({ store: { last_contact_seconds: silence } }: StatusAnswer): string {
  return silence === null ? 'last known' : `last known, ${formatDuration(silence * 1000)} ago`
}

function instancesOf(answer: StatusAnswer): string {
  if (answer.source === 'none') return 'other instances unknown'
  const instances = count(answer.instances, 'instance')
  return isCurrent(answer) ? instances : `${instances} (${asLastKnown(answer)})`
}

function leaderLine(answer: StatusAnswer): string {
  const { leader, last_leader: last = null } = answer
  if (leader) return `${leader.id}, fence ${leader.fence}`
  return last ? `unknown; last was ${last.id}, fence ${last.fence} (${asLastKnown(answer)})` : 'unknown'
}

function instanceLine({ id, role, uptime_seconds, draining, cut_off }: StatusAnswer['instance']): string {
  const line = `${id}, ${draining ? 'draining, ' : ''}${role}, up ${formatDuration(uptime_seconds * 1000)}`
  return cut_off ? `${line}; CUT OFF: it reaches no node, ${cut_off} does` : line
}

function nodesLine(answer: StatusAnswer): string {
  const { nodes, advice } = answer
  const slow = nodes.slow ? `${nodes.slow} slow, ` : ''
  const departed = nodes.departed ? `, ${nodes.departed} departed` : ''
  const rejected = nodes.rejected ? `, ${count(nodes.rejected, 'document')} rejected` : ''
  const told = isCurrent(answer) ? '' : '; as the leader told last'
  const source = advice === 'own' ? '; as probed by this instance' : told
  return `${nodes.total}: ${nodes.up} up, ${slow}${nodes.down} down, ${nodes.cordoned} cordoned${departed}${rejected}${source}`
}

/** The terms of the last leaders, the newest first: since when, and why each ended. */
function termsLine(answer: StatusAnswer): string {
  const { terms = [] } = answer
  const told = isCurrent(answer) || terms.length === 0 ? '' : ` (${asLastKnown(answer)})`
  const lines = terms
    .map(({ instance, since, until, why }) => {
      const end = until === null ? '' : ` until ${until}`
      return `${instance} since ${since}${end}${why === null ? '' : ` (${why})`}`
    })
    .join('; ')
  return lines + told
}

function storeLine({ store, config }: StatusAnswer): string {
  const { kind, ok, state, problem, last_contact_seconds: silence, round_trip_ms, members } = store
  const down = members.filter((member) => !member.ok).map(({ endpoint }) => endpoint)
  if (problem)
    return `${state === 'read-only' ? 'READ-ONLY' : 'REFUSED'} since ${problem.since}, ${kind}: ${printable(problem.reason)}`
  if (!ok) {
    const since =
      silence === null ? ', not reached since the start' : ` for ${formatDuration(silence * 1000)}`
    const from = { store: 'memory', snapshot: "the snapshot on this instance's disk", none: null }[
      config.source
    ]
    return `DOWN${since}${from === null ? '' : `, serving from ${from} (config revision ${config.revision})`}`
  }
  return [
    `ok, ${kind}`,
    ...(members.length > 0 ? [`${members.length - down.length}/${members.length} members`] : []),
    ...(round_trip_ms === null ? [] : [`round trip ${round_trip_ms} ms`]),
    ...(down.length > 0 ? [`down: ${down.join(' ')}`] : []),
  ].join(', ')
}

/** An instance with a revision below the last change has not seen it yet. */
function configLine(answer: StatusAnswer): string {
  const { config } = answer
  const { source, revision, stored, active } = config
  const behind = active.filter((instance) => BigInt(instance.revision) < BigInt(stored))
  const names = behind.map((instance) => `${instance.id} at ${instance.revision}`)
  const stale = { store: [], snapshot: ["stale: snapshot on this instance's disk"], none: ['none yet'] }
  const seen = `last change ${stored}, seen by ${active.length - behind.length}/${active.length}${names.length > 0 ? ` (${names.join(', ')})` : ''}`
  return [
    ...stale[source],
    `revision ${revision}`,
    ...(answer.source === 'none' ? [] : [isCurrent(answer) ? seen : `${seen} as last known`]),
    `${count(rejectedIn(config), 'document')} rejected`,
  ].join(', ')
}

function rejectedIn({ rejected, rejected_total }: StatusAnswer['config']): number {
  return rejected_total ?? rejected.length
}

/** Nodes that requests avoid, and why. */
function unwell({ unwell = 0, unwell_first: first = [] }: StatusAnswer['nodes']): string {
  const lines = first.map((node) => {
    const { name, health, frozen, since, reason } = node
    const isWell = health !== 'down' && health !== 'slow'
    const [state, ...others] = isWell ? marksOf(node) : [health, ...marksOf(node)]
    const also = others.length === 0 ? '' : ` (${others.join(', ')})`
    const found = frozen
      ? 'it accepts connections and answers nothing'
      : 'requests of this instance failed there'
    const why = isWell ? found : `${since === null ? '' : `since ${since}: `}${reason}`
    return `${state}: ${printable(`${name}${also}${isWell ? ':' : ''} ${why}`)}\n`
  })
  const rest = unwell - first.length
  const more = rest > 0 ? `down, slow or frozen: ${rest} more, see llamero node list\n` : ''
  const hint = first.some(({ frozen }) => frozen)
    ? '  hint: check whether the machine of the frozen node, or Ollama there, hangs\n'
    : ''
  return lines.join('') + more + hint
}

/** Healthy nodes of which this instance has no answered request yet since one failed. */
function recovering({ recovering: names = [] }: StatusAnswer['nodes']): string {
  return names
    .map((name) => `recovering: ${name} is healthy again; the next request that needs it tests it\n`)
    .join('')
}

/** Nodes of agents that are no longer registered. */
function departures({ departed = 0, departed_first: first = [] }: StatusAnswer['nodes']): string {
  const lines = first.map(({ name, since, reason, models }) => {
    const had = models.length > 0 ? `; it had ${models.join(', ')}` : ''
    return `departed: ${printable(`${name} since ${since}: ${reason}${had}`)}\n`
  })
  const rest = departed - first.length
  const more = rest > 0 ? `departed: ${rest} more, see llamero node list\n` : ''
  const hint =
    departed > 0 ? '  hint: start the agent again, or forget a node: llamero node remove NAME\n' : ''
  return lines.join('') + more + hint
}

/** Models with different copies on their nodes. */
function differences({ differing = 0, differing_first: first = [] }: StatusAnswer['models']): string {
  const lines = first.map(
    ({ name, older_on }) => `differs: ${printable(`${name}, older on ${older_on.join(', ')}`)}\n`,
  )
  const rest = differing - first.length
  return lines.join('') + (rest > 0 ? `differs: ${rest} more, see llamero model list\n` : '')
}

/** The warnings about documents in force. */
function warned({ warned: documents = [] }: StatusAnswer['config']): string {
  return documents
    .map(
      ({ key, warnings }) =>
        `warned: ${printable(key)}\n${warnings.map((text) => `  ${printable(text)}\n`).join('')}`,
    )
    .join('')
}

function rejections(config: StatusAnswer['config']): string {
  const rest = rejectedIn(config) - config.rejected.length
  return config.rejected.map(rejection).join('') + (rest > 0 ? `rejected: ${rest} more documents\n` : '')
}

/** The faults of a rejected document; its last valid version stays in force. */
function rejection({ key, errors }: RejectedDocument): string {
  const lines = errors.map(({ path, line, message, hint }) => {
    const where = [line === null ? '' : `line ${line}: `, path ? `${path}: ` : ''].join('')
    return `  ${printable(`${where}${message}${hint ? ` (${hint})` : ''}`)}\n`
  })
  return `rejected: ${printable(key)}\n${lines.join('')}`
}
