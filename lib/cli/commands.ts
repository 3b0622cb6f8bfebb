import type { Command } from 'commander'
import type { Finish } from './cli-context.ts'
import type { Invocation } from './invocation.ts'

interface TopCommand {
  /** With its arguments, in commander's notation. */
  readonly usage: string
  readonly alias?: string
  readonly description: string
  /** Loads the modules of the command; resolves to the function that adds its options, actions and subcommands. */
  readonly load: () => Promise<(command: Command, invocation: Invocation, finish: Finish) => void>
}

/** The first words of command lines, in the order of the help. */
const topCommands: readonly TopCommand[] = [
  {
    usage: 'serve',
    alias: 'start',
    description: 'run an instance',
    load: async () => (await import('./commands/serve.ts')).fillServe,
  },
  {
    usage: 'quickstart',
    description: 'run an instance with the Ollama of this machine, or else with simulated nodes',
    load: async () => (await import('./commands/serve.ts')).fillQuickstart,
  },
  {
    usage: 'agent',
    description: 'register the Ollama of this host as a node while it answers',
    load: async () => (await import('./commands/agent.ts')).fillAgent,
  },
  {
    usage: 'simulate',
    description: 'rehearse traffic on a fleet: the real scheduler, virtual nodes and time',
    load: async () => (await import('./commands/simulate.ts')).fillSimulate,
  },
  {
    usage: 'status',
    description: 'the cluster at a glance',
    load: async () => (await import('./commands/status.ts')).fillStatus,
  },
  {
    usage: 'node',
    description: 'the Ollama servers that requests are sent to',
    load: async () => (await import('./commands/node.ts')).fillNode,
  },
  {
    usage: 'model',
    description: 'the models on the nodes',
    load: async () => (await import('./commands/model.ts')).fillModel,
  },
  {
    usage: 'list',
    alias: 'ls',
    description: 'short for: model list',
    load: async () => (await import('./commands/model.ts')).fillList,
  },
  {
    usage: 'ps',
    description: 'short for: model ps',
    load: async () => (await import('./commands/model.ts')).fillPs,
  },
  {
    usage: 'pull <model>',
    description: 'short for: model pull',
    load: async () => (await import('./commands/model-orders.ts')).fillPull,
  },
  {
    usage: 'rm <model>',
    description: 'short for: model rm',
    load: async () => (await import('./commands/model-orders.ts')).fillRemove,
  },
  {
    usage: 'route',
    description: 'routes: which model answers, and on which nodes',
    load: async () => (await import('./commands/route.ts')).fillRoute,
  },
  {
    usage: 'queue',
    description: 'the requests that wait in this instance, and where it sent the last requests',
    load: async () => (await import('./commands/queue.ts')).fillQueue,
  },
  {
    usage: 'config',
    description: 'the settings of the whole cluster',
    load: async () => (await import('./commands/config.ts')).fillConfig,
  },
  {
    usage: 'key',
    description: 'the API keys of callers',
    load: async () => (await import('./commands/key.ts')).fillKey,
  },
  {
    usage: 'instance',
    description: 'the llamero processes of the cluster',
    load: async () => (await import('./commands/instance.ts')).fillInstance,
  },
  {
    usage: 'env',
    description: 'the settings of this executable, each with its source',
    load: async () => (await import('./commands/env.ts')).fillEnv,
  },
  {
    usage: 'version',
    description: 'the version of this executable',
    load: async () => (await import('./commands/env.ts')).fillVersion,
  },
]

/**
 * Adds every command to `program`, but fills only the command that the command line names: loading all of them would take
 * several times as long as running one.
 */
export async function addCommands(
  program: Command,
  invocation: Invocation,
  argv: readonly string[],
  finish: Finish,
): Promise<void> {
  const commands = topCommands.map(({ usage, alias, description, load }) => {
    const command = program.command(usage).description(description)
    if (alias) command.alias(alias)
    return { names: [command.name(), alias], command, load }
  })
  for (const [at, word] of argv.entries()) {
    const meant = commands.find(({ names }) => names.includes(word))
    if (!meant || argv[at - 1] === '--admin-url') continue
    return (await meant.load())(meant.command, invocation, finish)
  }
}
