import { Agent } from '../agent/agent.ts'
import { gpuLabels } from '../agent/gpu.ts'
import type { App } from '../app.ts'
import type { AgentOptions } from '../cli/cli-context.ts'
import { Prober } from '../cluster/probing/prober.ts'
import { defaultConfig } from '../fleet/config.ts'
import { describeFaults } from '../fleet/documents/contents.ts'
import { readDocument } from '../fleet/documents/document.ts'
import { nodeSchema } from '../fleet/node.ts'
import { SettingsError } from '../settings/definitions.ts'
import { isJournal } from '../settings/environment.ts'
import type { Flags } from '../settings/setting-lines.ts'
import { exposedFiles, loadSettings, type Settings } from '../settings/settings.ts'
import { unknownVariables } from '../settings/unknown-variables.ts'
import { RealClock } from '../shared/clock.ts'
import { messageOf } from '../shared/errors.ts'
import { createLog } from '../shared/winston.ts'
import { sayLogLoss } from '../start-error.ts'
import { EtcdStore } from '../store/etcd/etcd-store.ts'
import { KeyLayout } from '../store/key-layout.ts'
import { lastWords, untilStopped } from './serve.ts'

interface Streams {
  readonly stderr: NodeJS.WritableStream
}

/**
 * `llamero agent`: keeps the Ollama of this host registered as a node until a signal ends it. Resolves to the exit code:
 * 2 for a wrong setting or option.
 */
export async function agent(flags: Flags, options: AgentOptions, { stderr }: Streams): Promise<number> {
  try {
    const settings = await loadSettings(flags)
    const unknown = unknownVariables()
    if (settings.etcd.length === 0)
      throw new SettingsError(
        'an agent needs the etcd that the instances share\n  hint: set LLAMERO_ETCD=http://HOST:2379',
      )
    const exposed = await exposedFiles(flags)
    const running = run(settings, options, await documentOf(options))
    for (const reason of exposed) running.log.warn('a secret is not safe', { reason })
    for (const variable of unknown) running.log.warn('unknown environment variable', { variable })
    await untilStopped(running)
    return 0
  } catch (error) {
    stderr.write(lastWords(messageOf(error)))
    return error instanceof SettingsError ? 2 : 1
  }
}

/** Builds an agent and starts it. */
function run(
  settings: Settings,
  { ollama, announce }: AgentOptions,
  document: string,
): Pick<App, 'log' | 'stop' | 'patience'> {
  const { etcd: endpoints, etcdTls: tls, cluster, name, logLevel: level, logFormat: format } = settings
  const clock = new RealClock()
  const random = Math.random
  const log = createLog({ level, format, journal: isJournal(1), lost: sayLogLoss })
  const store = new EtcdStore({ endpoints, ...(tls && { tls }), clock, log })
  const prober = new Prober({
    name,
    spec: nodeSchema.parse({ url: ollama }),
    known: null,
    probes: () => defaultConfig.probes,
    clock,
    random,
    changed: () => registrar.poke(),
  })
  const registrar = new Agent({
    store,
    keys: new KeyLayout(cluster),
    clock,
    random,
    log,
    name,
    announce,
    document,
    health: () => prober.observation,
  })
  prober.start()
  registrar.start()
  log.info('agent started', { node: name, ollama, url: announce })
  const leave = async () => {
    prober.stop()
    await registrar.stop()
    await store.close()
    log.info('stopped')
  }
  let left: Promise<void> | null = null
  return {
    log,
    patience: settings.patience,
    stop: () => {
      left ??= leave()
      return left
    },
  }
}

/** The node's document. Facts from nvidia-smi become labels, which the operator may overrule. */
async function documentOf({ announce, labels, slots, weight, keepAlive }: AgentOptions): Promise<string> {
  const all = { ...(await gpuLabels()), ...labels }
  const text = `${JSON.stringify({ url: announce, weight, slots, keep_alive: keepAlive, labels: all })}\n`
  const parsed = readDocument(text, nodeSchema)
  if (!parsed.ok) throw new SettingsError(describeFaults(parsed.faults))
  return text
}
