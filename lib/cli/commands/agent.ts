import type { Command } from 'commander'
import { isLoopback } from '../../shared/net/address.ts'
import { keepAliveHelp, labelsOf, nodeUrl } from '../changes/node-changes.ts'
import type { Finish } from '../cli-context.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { numberOption, repeated, secondsOrText } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { flagOptions, flagsOf } from './serve.ts'

/** Settings that an agent uses; here `name` is the name of the node. */
const agentSettings = ['etcd', 'cluster', 'etcd_ca', 'etcd_cert', 'etcd_key', 'log_level', 'log_format']

interface Options {
  readonly ollama: string
  readonly announce?: string
  readonly label?: readonly string[]
  readonly slots?: number
  readonly weight?: number
  readonly keepAlive?: number | string
}

/** `llamero agent`: registers the Ollama of a GPU host from that host. */
export function fillAgent(agent: Command, { context }: Invocation, finish: Finish): void {
  const { settings, run } = context
  agent
    .option('--ollama <url>', 'the local Ollama', 'http://127.0.0.1:11434')
    .option('--announce <url>', 'URL at which the instances reach it; default: that of --ollama')
    .option('--label <key=value>', 'a label that routes can select; may be repeated', repeated)
    .option(
      '--slots <number>',
      'requests that it runs at once per model (its OLLAMA_NUM_PARALLEL)',
      numberOption(1),
    )
    .option(
      '--weight <number>',
      'its speed relative to the other nodes, until that is learned; 0: no requests',
      numberOption(0),
    )
    .option('--keep-alive <duration>', keepAliveHelp, secondsOrText)
    .option('--name <name>', 'name of the node (env LLAMERO_NAME); default: the host name')
  const flags = flagOptions(settings().filter(({ name }) => agentSettings.includes(name)))
  for (const flag of flags) agent.addOption(flag)
  agent.action(async ({ label, slots, weight, keepAlive, ...urls }: Options) => {
    const labels = labelsOf(label ?? [])
    finish(await run.agent(flagsOf(agent), { ...addresses(urls), labels, slots, weight, keepAlive }))
  })
}

/** @throws Failure (usage) when the instances could not reach the announced address. */
function addresses({ ollama, announce }: Pick<Options, 'ollama' | 'announce'>) {
  const local = nodeUrl(ollama)
  if (announce !== undefined) return { ollama: local, announce: nodeUrl(announce) }
  if (isReachable(new URL(local).hostname)) return { ollama: local, announce: local }
  throw new CliFailure(
    exits.usage,
    `the address ${local} means another machine on every instance: announce an address at which they reach this host`,
    'add --announce http://HOST:11434',
  )
}

/** Whether an address means the same machine on every host. */
function isReachable(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '')
  return !isLoopback(host) && host !== '0.0.0.0' && host !== '::'
}
