import { type Command, Option } from 'commander'
import type { NodeAnswer } from '../../api/nodes.ts'
import { nodeStates } from '../../fleet/node-states.ts'
import { formatDuration } from '../../shared/duration.ts'
import type { AdminClient } from '../admin-client.ts'
import {
  changesOf,
  keepAliveHelp,
  labelsOf,
  nodePath,
  nodeUrl,
  settableFields,
} from '../changes/node-changes.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import {
  numberOption,
  type RequestOptions,
  repeated,
  requestTimeoutMs,
  secondsOrText,
  timeoutOption,
  withOutput,
  withTimeout,
  withYes,
} from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { suggesting } from '../suggestion.ts'
import { count } from '../terminal/format.ts'
import { table } from '../terminal/table.ts'
import { nodeColumns, nodeFacts } from '../views/node-view.ts'
import { seenNode, waitUntilIdle } from './drain.ts'

/** `llamero node …`: the Ollama servers. */
export function fillNode(node: Command, invocation: Invocation): void {
  const data = (nameAndArgs: string) => withOutput(withTimeout(node.command(nameAndArgs)))

  data('add <name> <url>')
    .description('register an Ollama server')
    .option(
      '--weight <number>',
      'its speed relative to the other nodes, until that is learned; 0: no requests',
      numberOption(0),
    )
    .option(
      '--slots <number>',
      'requests that it runs at once per model (its OLLAMA_NUM_PARALLEL)',
      numberOption(1),
    )
    .option('--keep-alive <duration>', keepAliveHelp, secondsOrText)
    .option('--label <key=value>', 'a label that routes can select; may be repeated', repeated)
    .addOption(new Option('--state <state>', 'state at the start').choices(nodeStates))
    .option('--if-not-exists', 'change nothing, and succeed, when the name is registered already')
    .action((name, url, options) => add(invocation, name, url, options))
  data('list')
    .alias('ls')
    .description('all nodes')
    .action((options) => list(invocation, options))
  data('show <name>')
    .description('the details of one node')
    .action((name, options) => show(invocation, name, options))
  data('set <name> <field=value...>')
    .description('change fields of a node; "field=" removes one')
    .addHelpText('after', `\nFields: ${settableFields.join(', ')}, labels.KEY`)
    .action((name, assignments, options) => set(invocation, name, changesOf(assignments), options))
  data('cordon <name>')
    .description('send it no new requests')
    .action((name, options) => set(invocation, name, { state: 'cordoned' }, options))
  data('uncordon <name>')
    .description('send it requests again')
    .action((name, options) => set(invocation, name, { state: 'active' }, options))
  node
    .command('drain <name>')
    .description('cordon it and wait until it is idle')
    .addOption(timeoutOption('how long to wait', 300_000))
    .option('--no-wait', 'cordon it and return')
    .action((name, options) => drain(invocation, name, options))
  withYes(withTimeout(node.command('remove <name>')))
    .alias('rm')
    .description('remove a node')
    .action((name, options) => remove(invocation, name, options))
}

interface AddOptions extends RequestOptions {
  readonly weight?: number
  readonly slots?: number
  readonly keepAlive?: number | string
  readonly label?: readonly string[]
  readonly state?: string
  readonly ifNotExists?: boolean
}

async function add(invocation: Invocation, name: string, url: string, options: AddOptions): Promise<void> {
  const { weight, slots, keepAlive, state, label, ifNotExists, output, timeout } = options
  const { terminal } = invocation
  const path = nodePath(name)
  const spec = {
    url: nodeUrl(url),
    weight,
    slots,
    keep_alive: keepAlive,
    state,
    labels: label && labelsOf(label),
  }
  const admin = invocation.admin(timeout)
  try {
    const added = await admin.send({ method: 'put', path, body: spec, headers: { 'if-none-match': '*' } })
    terminal.show(added, output, () => '')
    if (isBareHost(url))
      terminal.say(
        `${name}: added with port 80, as the URL names none; Ollama itself has port 11434`,
        `llamero node set ${name} url=${spec.url}:11434`,
      )
    else terminal.say(`${name}: added`, `llamero node show ${name}`)
  } catch (error) {
    if (!ifNotExists || !(error instanceof CliFailure) || error.exit !== exits.conflict) throw error
    // Either the name or the URL is taken: --if-not-exists covers only the name.
    const existing = await existingNode(admin, path)
    if (!existing) throw error
    terminal.show(existing, output, () => '')
    const differs = existing.url !== spec.url
    terminal.say(
      `${name}: exists already${differs ? ` with ${existing.url}` : ''}, left unchanged`,
      differs ? `llamero node set ${name} url=${spec.url}` : undefined,
    )
  }
}

/** Whether a URL leads to port 80 because nothing else was written: a proxy may be there, Ollama is not. */
function isBareHost(url: string): boolean {
  return /^http:/i.test(url) && new URL(url).pathname === '/' && !/:\d+\/?$/.test(url)
}

async function existingNode(
  admin: AdminClient,
  path: ReturnType<typeof nodePath>,
): Promise<NodeAnswer | null> {
  try {
    return await admin.get(path)
  } catch (error) {
    if (error instanceof CliFailure && error.exit === exits.notFound) return null
    throw error
  }
}

async function list(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const { terminal, context } = invocation
  const answer = await invocation.admin(timeout).get('/nodes')
  terminal.show(answer, output, (look) =>
    table(nodeColumns(context.clock.date(), answer.nodes), answer.nodes, look),
  )
  if (answer.nodes.length === 0) terminal.say('no nodes yet', 'llamero node add NAME http://HOST:11434')
}

async function show(invocation: Invocation, name: string, { output, timeout }: RequestOptions) {
  const node = await getNode(invocation.admin(timeout), name)
  const now = invocation.context.clock.date()
  invocation.terminal.show(node, output, (look) => nodeFacts(node, now, look))
}

async function set(
  invocation: Invocation,
  name: string,
  changes: Readonly<Record<string, unknown>>,
  { output, timeout }: RequestOptions,
): Promise<void> {
  const spec = await patchNode(invocation.admin(timeout), name, changes)
  invocation.terminal.show(spec, output, () => '')
  invocation.terminal.say(`${name}: ${saidOf(changes)}`)
}

/** What a change did, in the verbs of the commands. */
function saidOf(changes: Readonly<Record<string, unknown>>): string {
  const [only, ...others] = Object.entries(changes)
  if (others.length > 0 || only?.[0] !== 'state') return 'changed'
  return only[1] === 'active' ? 'takes requests again' : String(only[1])
}

interface DrainOptions {
  readonly timeout: number
  readonly wait: boolean
}

async function drain(invocation: Invocation, name: string, { timeout, wait }: DrainOptions): Promise<void> {
  const { terminal, context } = invocation
  const admin = invocation.admin(requestTimeoutMs)
  await patchNode(admin, name, { state: 'cordoned' })
  if (!wait) return terminal.say(`${name}: cordoned`, `llamero node show ${name}`)
  terminal.say(`${name}: cordoned; waiting up to ${formatDuration(timeout)} for its requests to end`)
  const { clock, signal } = context
  const tookMs = await waitUntilIdle({
    name,
    clock,
    signal,
    timeoutMs: timeout,
    look: async () => seenNode(await getNode(admin, name)),
    progress: (line) => terminal.progress(line),
    late: {
      state: 'cordoned',
      hint: `llamero node drain ${name} (waits again), or llamero node uncordon ${name}`,
    },
  }).catch((error) => {
    if (signal.aborted) terminal.say(`${name}: stays cordoned`, `llamero node uncordon ${name}`)
    throw error
  })
  terminal.say(`${name}: drained in ${formatDuration(tookMs)}`, `llamero node uncordon ${name}`)
}

interface RemoveOptions {
  readonly timeout: number
  readonly yes?: boolean
}

async function remove(invocation: Invocation, name: string, options: RemoveOptions): Promise<void> {
  const admin = invocation.admin(options.timeout)
  await invocation.consent(options.yes, async () => {
    const { url, running } = await getNode(admin, name)
    return `Remove node ${name} (${url})${running > 0 ? `, which runs ${count(running, 'request')}` : ''}?`
  })
  await named(admin, name, admin.send({ method: 'delete', path: nodePath(name) }))
  invocation.terminal.say(`${name}: removed`)
}

function getNode(admin: AdminClient, name: string): Promise<NodeAnswer> {
  return named(admin, name, admin.get(nodePath(name)))
}

function patchNode(admin: AdminClient, name: string, changes: Readonly<Record<string, unknown>>) {
  return named(admin, name, admin.send({ method: 'patch', path: nodePath(name), body: changes }))
}

function named<T>(admin: AdminClient, name: string, call: Promise<T>): Promise<T> {
  const known = async () => (await admin.get('/nodes')).nodes.map((node) => node.name)
  return suggesting(name, call, known, 'llamero node list')
}
