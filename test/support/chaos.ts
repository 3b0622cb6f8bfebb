import { readFile } from 'node:fs/promises'
import { Agent } from 'node:http'
import { adminTokenFile } from '../../lib/settings.ts'
import { aModel } from '../../lib/simulator/models.ts'
import { SimulatedNode } from '../../lib/simulator/node.ts'
import { seededDice } from '../../lib/simulator/tokens.ts'
import { InstanceProcess, until } from './processes.ts'
import { pause, storm } from './storm.ts'
import { ask, type Dialect, dialects, judge, type Question, type Verdict } from './strict-answers.ts'

export interface ChaosOptions {
  /** Streams open at once, all the time. */
  readonly streams: number
  /** Requests under way at once that are answered whole. */
  readonly wholes: number
  readonly nodes: number
  readonly stormMs: number
  /** From one fault to the next, on average. */
  readonly faultEveryMs: number
  readonly seed: number
}

interface Record {
  readonly startedAt: number
  readonly ms: number
  readonly attempts: number
  readonly verdict: Verdict
  readonly path: string
  readonly stream: boolean
}

export interface ChaosReport {
  readonly records: readonly Record[]
  /** Most answers that had begun and not ended at the same moment. */
  readonly peak: number
  readonly faults: number
  /** Most attempts for each request begun within any ten seconds. */
  readonly attemptsRatio: number
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
}

const standing = 2
const words = 30
const expected = Array.from({ length: words }, (_, n) => `word-${n} `).join('')
const model = aModel({
  name: 'm:latest',
  sizeMiB: 20,
  kvMiBPer1kCtx: 0,
  loadMs: 100,
  promptTps: 0,
  text: expected.trimEnd(),
  cpuFactor: 1,
  // A simulated runner slows down with the square root of nothing: a third of its speed for each further slot.
  decodeTps: 120,
})
const config = {
  timeouts: { first_token: '5s', between_tokens: '5s' },
  probes: { interval: '1s' },
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
  const agent = new Agent({ keepAlive: true })
  try {
    await configure(instance, nodes, options)
    await examine(await run(instance, nodes, agent, options))
  } finally {
    agent.destroy()
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
  await send('PATCH', 'config', config)
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
  agent: Agent,
  options: ChaosOptions,
): Promise<ChaosReport> {
  const { streams, wholes, stormMs, faultEveryMs } = options
  const dice = seededDice(options.seed)
  const records: Record[] = []
  let open = 0
  let peak = 0
  const asking = async (dialect: Dialect, question: Question) => {
    const startedAt = performance.now()
    const begun = () => {
      peak = Math.max(peak, ++open)
    }
    let isOpen = false
    const answer = await ask(instance.url, dialect, question, agent, () => {
      isOpen = true
      begun()
    })
    if (isOpen) open--
    records.push({
      startedAt,
      ms: performance.now() - startedAt,
      attempts: answer.attempts ?? standing + 1,
      verdict: judge(dialect, question, answer, expected.trimEnd()),
      path: dialect.path,
      stream: question.stream,
    })
  }
  const any = () => dialects[Math.floor(dice() * dialects.length)] as Dialect
  const worker = async (stream: boolean, signal: AbortSignal, delayMs: number) => {
    await pause(delayMs)
    while (!signal.aborted) await asking(any(), { model: model.name, stream })
  }

  await Promise.all(dialects.map((dialect) => asking(dialect, { model: model.name, stream: true })))
  const vitals = () => vitalsOf(instance, nodes)
  const before = await vitals()
  records.length = 0

  const over = new AbortController()
  const rampMs = stormMs / 8
  const workers = Array.from({ length: streams + wholes }, (_, n) =>
    worker(n < streams, over.signal, rampMs * dice()),
  )
  await pause(rampMs)
  const blowing = storm({ nodes, standing, dice, everyMs: faultEveryMs }, over.signal)
  await pause(stormMs)
  over.abort()
  const faults = await blowing
  await Promise.all(workers)
  agent.destroy()
  return { records, peak, faults, attemptsRatio: attemptsRatio(records), before, vitals }
}

const windowMs = 10_000

/** Of every window that begins with a request and holds a tenth of a full one's requests: few are no ratio. */
function attemptsRatio(records: readonly Record[]): number {
  const byStart = records.toSorted((a, b) => a.startedAt - b.startedAt)
  let worst = 0
  let attempts = 0
  let first = 0
  for (const [n, { startedAt, attempts: own }] of byStart.entries()) {
    attempts += own
    while (startedAt - (byStart[first]?.startedAt ?? 0) >= windowMs)
      attempts -= byStart[first++]?.attempts ?? 0
    const requests = n - first + 1
    if (requests >= 50) worst = Math.max(worst, attempts / requests)
  }
  return worst
}

async function vitalsOf(instance: InstanceProcess, nodes: readonly SimulatedNode[]): Promise<Vitals> {
  const text = await (await fetch(`${instance.adminUrl}/metrics`)).text()
  const sum = (name: string) =>
    [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce(
      (total, [, value]) => total + Number(value),
      0,
    )
  const models = nodes.flatMap((node) => Object.values(node.stats().models))
  return {
    sockets: sum('process_open_fds'),
    timers: Number(/nodejs_active_resources\{type="Timeout"\} (\d+)/.exec(text)?.[1] ?? 0),
    heapMiB: sum('nodejs_heap_size_used_bytes') / 1024 ** 2,
    inFlight: sum('llamero_node_inflight_requests'),
    queued: sum('llamero_queue_length'),
    working: models.reduce((total, { inFlight }) => total + inFlight, 0),
  }
}
