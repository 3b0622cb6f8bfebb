import { readFile } from 'node:fs/promises'
import { adminTokenFile } from '../../lib/settings/admin-token.ts'
import { seededRandom } from '../../lib/shared/random.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { Callers } from './callers.ts'
import { InstanceProcess, until } from './processes.ts'
import { RetryRecord } from './retry-record.ts'
import { pause, storm } from './storm.ts'

export interface ChaosOptions {
  /** Streams open at once, all the time. */
  readonly streams: number
  /** Requests under way at once that are answered whole. */
  readonly wholes: number
  readonly nodes: number
  readonly stormMs: number
  /** From one fault to the next, on average. */
  readonly faultEveryMs: number
  /** Of the random: CHAOS_SEED repeats a storm, as far as the machine lets it. */
  readonly seed: number
}

export interface ChaosReport {
  readonly callers: Callers
  readonly retries: RetryRecord
  readonly faults: number
  /** Requests for an answer that reached a node. */
  readonly seenByNodes: number
  readonly before: Vitals
  vitals(): Promise<Vitals>
}

/** What an idle instance holds. */
export interface Vitals {
  readonly sockets: number
  readonly timers: number
  readonly heapMiB: number
  readonly inFlight: number
  readonly queued: number
  /** Requests that the nodes still work on. */
  readonly working: number
  /** Requests that were sent on to another node so far. */
  readonly retries: number
  /** Requests sent besides attempts: loads of models, and what was sent again on a new socket. */
  readonly besides: number
}

const standing = 2
const words = Array.from({ length: 30 }, (_, n) => `word-${n} `)
const model = aModel({
  name: 'm:latest',
  sizeMiB: 20,
  kvMiBPer1kCtx: 0,
  loadMs: 100,
  promptTps: 0,
  text: words.join(''),
  cpuFactor: 1,
  // Each further slot slows a runner down by a third: with eighty streams each says nine words a second.
  decodeTps: 240,
})
/** As many tries as there are nodes: at this rate of faults, three in a row would now and then hit the same request. */
function configOf({ nodes }: ChaosOptions) {
  return {
    routing: { attempts: nodes },
    timeouts: { first_token: '5s', between_tokens: '5s', whole_answer: '8s' },
    probes: { interval: '1s', fall: 2 },
    // As patient as class `batch`: nodes recover slowly, and refusals of a full cluster are not the subject here.
    classes: [{ name: 'default', max_wait: '10m' }],
  }
}

/** A real instance in a process of its own, and nodes in this one, which is not what is measured. */
export async function withChaos(
  options: ChaosOptions,
  examine: (report: ChaosReport) => Promise<void>,
): Promise<void> {
  const nodes = await Promise.all(
    Array.from({ length: options.nodes }, (_, n) =>
      SimulatedNode.start({ name: `node-${n}`, models: [model], gpus: [], numParallel: slotsOf(options) }),
    ),
  )
  const instance = await InstanceProcess.start('chaos', { LLAMERO_LOG_LEVEL: 'error' })
  try {
    await configure(instance, nodes, options)
    await examine(await run(instance, nodes, options))
  } finally {
    await instance.stop()
    await Promise.all(nodes.map((node) => node.stop()))
  }
}

/** The nodes that always stand can take everything. */
function slotsOf({ streams, wholes }: ChaosOptions): number {
  return Math.ceil((streams + wholes) / standing)
}

async function configure(
  instance: InstanceProcess,
  nodes: readonly SimulatedNode[],
  options: ChaosOptions,
): Promise<void> {
  const token = (await readFile(adminTokenFile(instance.env['LLAMERO_STATE'] ?? ''), 'utf8')).trim()
  const send = async (method: string, path: string, body: object) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const answer = await fetch(`${instance.adminUrl}/admin/v1/${path}`, {
      method,
      headers,
      body: JSON.stringify(body),
    })
    if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`)
  }
  await send('PATCH', 'config', configOf(options))
  for (const { name, url } of nodes) await send('PUT', `nodes/${name}`, { url, slots: slotsOf(options) })
  const isUp = async () => {
    const { nodes: counts } = (await instance.admin('status')) as { nodes: { up?: number } }
    return counts.up === nodes.length
  }
  await until(isUp, 'every node is up', 20_000)
}

async function run(
  instance: InstanceProcess,
  nodes: readonly SimulatedNode[],
  options: ChaosOptions,
): Promise<ChaosReport> {
  const { streams, wholes, stormMs, faultEveryMs } = options
  const random = seededRandom(options.seed)
  const callers = new Callers({
    url: instance.url,
    model: model.name,
    words,
    mostAttempts: options.nodes,
    random,
  })
  const vitals = () => vitalsOf(instance, nodes)
  await callers.askAll()
  const before = await vitals()

  const over = new AbortController()
  const retries = new RetryRecord(async () => (await vitals()).retries)
  const rampMs = stormMs / 8
  const asking = Array.from({ length: streams + wholes }, (_, n) =>
    callers.keepAsking(n < streams, rampMs, over.signal),
  )
  await pause(rampMs)
  const blowing = storm({ nodes, standing, random, everyMs: faultEveryMs }, over.signal)
  await pause(stormMs)
  await retries.stop()
  over.abort()
  const faults = await blowing
  await Promise.all(asking)
  callers.close()
  const seenByNodes = nodes
    .flatMap(({ requests }) => requests)
    .filter(({ method }) => method === 'POST').length
  return { callers, retries, faults, seenByNodes, before, vitals }
}

async function vitalsOf(instance: InstanceProcess, nodes: readonly SimulatedNode[]): Promise<Vitals> {
  const text = await (await fetch(`${instance.adminUrl}/metrics`)).text()
  const sum = (name: string) =>
    [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce(
      (total, [, value]) => total + Number(value),
      0,
    )
  const resent = [
    ...text.matchAll(/^llamero_upstream_attempts_total\{.*result="stale-socket".* (\S+)$/gm),
  ].reduce((total, [, value]) => total + Number(value), 0)
  const models = nodes.flatMap((node) => Object.values(node.stats().models))
  return {
    sockets: sum('process_open_fds'),
    timers: Number(/nodejs_active_resources\{type="Timeout"\} (\d+)/.exec(text)?.[1] ?? 0),
    heapMiB: sum('nodejs_heap_size_used_bytes') / 1024 ** 2,
    inFlight: sum('llamero_node_inflight_requests'),
    queued: sum('llamero_queue_length'),
    retries: sum('llamero_retries_total'),
    besides: sum('llamero_model_loads_total') + resent,
    working: models.reduce((total, { inFlight }) => total + inFlight, 0),
  }
}
