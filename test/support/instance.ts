import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type App, startApp } from '../../lib/app.ts'
import { adminTokenFile } from '../../lib/settings/admin-token.ts'
import { loadSettings } from '../../lib/settings/settings.ts'
import { type ModelDefinition, quickstartModels } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { eventually } from './wire.ts'

export interface Instance extends AsyncDisposable {
  readonly app: App
  /** Of the data listener. */
  readonly url: string
  readonly adminUrl: string
  readonly nodes: readonly SimulatedNode[]
  /** The admin token, and the file it was read from. */
  readonly token: string
  readonly tokenFile: string
}

interface Sketch {
  /** How many simulated nodes; 0 is allowed. */
  readonly nodes?: number
  readonly slots?: number
  readonly models?: readonly ModelDefinition[]
  /** What the nodes can pull. */
  readonly registry?: readonly ModelDefinition[]
  readonly config?: object
}

/** A whole instance in this process, on the embedded store, in front of simulated nodes that are all up. */
export async function startInstance({
  nodes: count = 1,
  slots = 4,
  models = quickstartModels,
  registry = quickstartModels,
  config = {},
}: Sketch = {}): Promise<Instance> {
  const state = await mkdtemp(join(tmpdir(), 'llamero-state-'))
  const flags = { listen: '127.0.0.1:0', admin: '127.0.0.1:0', name: 'test', state, 'log-level': 'error' }
  const app = await startApp(await loadSettings(flags))
  const nodes = await Promise.all(
    Array.from({ length: count }, (_, n) =>
      SimulatedNode.start({ name: `node-${n}`, models, registry, numParallel: slots }),
    ),
  )
  const put = (key: string, value: object) => ({ type: 'put' as const, key, value: JSON.stringify(value) })
  await app.store.commit({
    when: [],
    apply: [
      put(app.keys.config, config),
      ...nodes.map(({ name, url }) => put(app.keys.node(name), { url, slots })),
    ],
  })
  await eventually(() => upCount(app) === count && app.snapshot.isReady, 'every node is up', 10_000)
  return {
    app,
    url: `http://127.0.0.1:${app.data.port}`,
    adminUrl: `http://127.0.0.1:${app.admin.port}`,
    nodes,
    token: (await readFile(adminTokenFile(state), 'utf8')).trim(),
    tokenFile: adminTokenFile(state),
    async [Symbol.asyncDispose]() {
      await app.stop()
      await Promise.all(nodes.map((node) => node.stop()))
      await rm(state, { recursive: true })
    },
  }
}

function upCount({ snapshot }: App): number {
  return [...snapshot.get().nodes.values()].filter((node) => node.available).length
}
