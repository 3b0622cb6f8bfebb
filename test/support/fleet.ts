import { type Config, configSchema } from '../../lib/fleet/config.ts'
import { type NodeSpec, type NodeStatus, nodeSchema } from '../../lib/fleet/node.ts'
import type { RequestSpec } from '../../lib/fleet/request-spec.ts'
import { buildSnapshot, type Documents, emptyDocuments, type Snapshot } from '../../lib/fleet/snapshot.ts'

export interface NodeSketch extends Partial<Omit<NodeSpec, 'url'>> {
  readonly name: string
  readonly url?: string
  readonly models?: readonly string[]
  readonly loaded?: readonly string[]
  /** Of what is loaded; 4096 by default. */
  readonly context?: number
  readonly health?: NodeStatus['health'] | 'unknown'
  /** What its last failed probe met. */
  readonly fault?: NonNullable<NodeStatus['fault']>
  /** Of each of its models; 1 by default. */
  readonly bytes?: number
  /** Of each of its models; not told by default. */
  readonly capabilities?: readonly string[]
}

interface FleetSketch extends Partial<Omit<Documents, 'nodes' | 'statuses' | 'config'>> {
  readonly nodes?: readonly NodeSketch[]
  readonly config?: Record<string, unknown>
}

/** A snapshot of the fleet sketched: each node up, with the models named on its disk. */
export function aSnapshot(sketch: FleetSketch = {}): Snapshot {
  return buildSnapshot(aDocuments(sketch))
}

/** The same, where each node has all of its models in memory unless the sketch says otherwise. */
export function aLoadedFleet({ nodes = [], ...rest }: FleetSketch = {}): Snapshot {
  return aSnapshot({
    nodes: nodes.map((node) => ({ loaded: node.models ?? ['m:latest'], ...node })),
    ...rest,
  })
}

/** The documents of the fleet sketched, for what the sketch cannot say. */
export function aDocuments({ nodes = [], config = {}, ...rest }: FleetSketch): Documents {
  return {
    ...emptyDocuments,
    revision: 1n,
    // The raw requests of the tests are sent to the Host "x".
    config: configSchema.parse({ auth: { hosts: ['x'] }, ...config }) as Config,
    ...rest,
    nodes: new Map(nodes.map((node) => [node.name, specOf(node)])),
    statuses: new Map(
      nodes.filter(({ health }) => health !== 'unknown').map((node) => [node.name, statusOf(node)]),
    ),
  }
}

export function anAsk(ask: Partial<RequestSpec> = {}): RequestSpec {
  return {
    id: 'request-1',
    api: 'ollama_chat',
    model: 'm:latest',
    variant: '',
    tenant: 'anonymous',
    class: 'default',
    labels: {},
    arrivedAt: 0,
    tried: new Set(),
    ...ask,
  }
}

function specOf({
  name,
  models: _m,
  loaded: _l,
  context: _c,
  health: _h,
  fault: _f,
  bytes: _b,
  capabilities: _k,
  url = 'http://127.0.0.1:1',
  ...spec
}: NodeSketch): NodeSpec {
  return nodeSchema.parse({ url, ...spec })
}

function statusOf({
  models = ['m:latest'],
  loaded = [],
  context = 4096,
  health = 'up',
  fault,
  bytes = 1,
  capabilities,
}: NodeSketch): NodeStatus {
  return {
    fence: '1',
    health: health === 'unknown' ? 'up' : health,
    reason: '',
    ...(fault && { fault }),
    since: '2026-01-01T00:00:00Z',
    version: '0.32.15',
    weight: 1,
    models: models.map((name) => ({
      name,
      digest: `digest of ${name}`,
      size: bytes,
      modified_at: '2026-01-01T00:00:00Z',
      details: {},
      ...(capabilities && { capabilities }),
    })),
    loaded: loaded.map((name) => ({
      name,
      digest: `digest of ${name}`,
      size: bytes,
      size_vram: bytes,
      context_length: context,
      expires_at: '2026-01-01T00:05:00Z',
      details: {},
    })),
  }
}
