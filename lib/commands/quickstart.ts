import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { App, Parts } from '../app.ts'
import { type Flags, settingLines } from '../settings/setting-lines.ts'
import { type Address, formatAddress, isLoopback } from '../shared/net/address.ts'
import { start, untilStopped } from './serve.ts'

interface Streams {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
  /** The executable, to fork simulated nodes from. */
  readonly executable: string
}

interface Node {
  readonly name: string
  readonly url: string
  readonly slots: number
  readonly child?: ChildProcess
}

const localOllama = 'http://127.0.0.1:11434'

/** Three simulated nodes of different speed, so that routing has a choice. */
const fleet = [
  { name: 'sim-fast', speed: 8, slots: 4 },
  { name: 'sim-medium', speed: 4, slots: 2 },
  { name: 'sim-slow', speed: 2, slots: 2 },
]

/**
 * `llamero quickstart`: one instance on the embedded store, in a cluster of its own, in front of the local Ollama or, when
 * none answers, of simulated nodes. Its ports open when the nodes are known. Resolves to the exit code.
 */
export async function quickstart(flags: Flags, streams: Streams): Promise<number> {
  let nodes: readonly Node[] = []
  const prepare = async (parts: Parts) => {
    const found = await answersAsOllama(localOllama)
    nodes = found
      ? [{ name: 'local', url: localOllama, slots: 1 }]
      : await Promise.all(fleet.map((each) => simulated(each, streams.executable)))
    await register(parts, nodes)
    await untilUp(parts, nodes.length)
  }
  try {
    const app = await start({ cluster: 'quickstart', 'log-level': 'warn', ...flags }, streams.stderr, prepare)
    if (typeof app === 'number') return app
    const stopped = untilStopped(app)
    streams.stdout.write(welcome(app, nodes, await cliFor(app, flags, streams.executable)))
    await stopped
    return 0
  } finally {
    for (const { child } of nodes) child?.kill()
  }
}

async function answersAsOllama(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/api/version`, { signal: AbortSignal.timeout(1000) })
    return typeof ((await response.json()) as { version?: unknown }).version === 'string'
  } catch {
    return false // the port is closed, or the program behind it is not Ollama
  }
}

/** A simulated node in its own process: it can be killed like a real node, and ends with this process. */
async function simulated({ name, speed, slots }: (typeof fleet)[number], executable: string): Promise<Node> {
  const args = ['simulate', 'node', name, '--port', '0', '--speed', String(speed), '--slots', String(slots)]
  const child = fork(executable, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const [message] = (await once(child, 'message')) as [{ url: string }]
  return { name, url: message.url, slots, child }
}

/** Replaces the nodes of an earlier quickstart: this cluster belongs to quickstart alone. */
async function register({ store, keys }: Parts, nodes: readonly Node[]): Promise<void> {
  const { entries } = await store.list(`${keys.root}nodes/`)
  await store.commit({
    when: [],
    apply: [
      ...entries
        .filter(({ key }) => !nodes.some(({ name }) => keys.node(name) === key))
        .map(({ key }) => ({ type: 'delete' as const, key })),
      ...nodes.map(({ name, url, slots }) => ({
        type: 'put' as const,
        key: keys.node(name),
        value: `${JSON.stringify({ url, slots })}\n`,
      })),
    ],
  })
}

/** Resolves once every node has answered its first probe, or after five seconds: a sick node must not hide the rest. */
function untilUp({ snapshot }: Parts, count: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const look = () => {
    if ([...snapshot.get().nodes.values()].filter(({ health }) => health === 'up').length >= count) resolve()
  }
  snapshot.onSwap(look)
  look()
  setTimeout(resolve, 5000).unref()
  return promise
}

/** How the CLI is called so that it finds this instance and its token. */
async function cliFor({ admin }: App, flags: Flags, executable: string): Promise<string> {
  const url = `http://${formatAddress(reachable(admin))}`
  const known = (await settingLines()).find(({ name }) => name === 'admin_url')?.value
  return [
    ...(flags['state'] === undefined ? [] : [`LLAMERO_STATE=${flags['state']}`]),
    executable.includes(join('dist', 'bin')) ? 'llamero' : 'npm run --silent llamero --',
    ...(url === known ? [] : ['--admin-url', url]),
  ].join(' ')
}

/** An address by which this machine reaches a listener: a listener on every address is on loopback too. */
function reachable({ host, port }: Address): Address {
  const loopback: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' }
  return { host: loopback[host] ?? host, port }
}

function welcome(app: App, nodes: readonly Node[], cli: string): string {
  const { data, admin } = app
  const lines = nodes.map(
    ({ name, url, child }) =>
      `  ${name.padEnd(12)} ${url}${child ? `  simulated, pid ${child.pid}` : '  your Ollama'}`,
  )
  const victim = nodes.find(({ child }) => child)
  return [
    'llamero is running.',
    `  data         http://${formatAddress(data)}    speaks Ollama, OpenAI and Anthropic`,
    `  admin        http://${formatAddress(admin)}    health, metrics, admin API`,
    victim ? 'No Ollama answered on 127.0.0.1:11434, so these nodes are simulated:' : 'In front of:',
    ...lines,
    'Try:',
    ...firstRequest(app, cli),
    `  ${cli} node list`,
    victim
      ? `  kill -9 ${victim.child?.pid}    # a node dies; ask again`
      : `  ${cli} node add second http://HOST:11434`,
    'Ctrl-C stops it.',
    '',
  ].join('\n')
}

/** A request that works; off loopback, callers need a key. */
function firstRequest({ data, snapshot }: App, cli: string): string[] {
  const { models, keys } = snapshot.get()
  const model = [...models.keys()].find((name) => !name.includes('embed')) ?? 'MODEL'
  const url = `http://${formatAddress(reachable(data))}/api/chat`
  const body = `-d '{"model":"${model}","messages":[{"role":"user","content":"hello"}]}'`
  if (isLoopback(data.host)) return [`  curl ${url} ${body}`]
  const taken = new Set([...keys.values()].map(({ id }) => id))
  let id = 'try'
  for (let next = 2; taken.has(id); next++) id = `try-${next}`
  return [
    `  KEY=$(${cli} key create ${id} --quiet)    # off loopback every caller needs a key`,
    `  curl ${url} -H "Authorization: Bearer $KEY" ${body}`,
  ]
}
