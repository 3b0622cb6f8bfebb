import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { coreSlowness } from '../support/cpu.ts'
import { type Etcd, etcdctl, etcdctlPut, startEtcd } from '../support/etcd.ts'
import { askOnce, Load } from '../support/load.ts'
import { InstanceProcess, until } from '../support/processes.ts'
import { starvedMs } from '../support/starvation.ts'

const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
const root = '/llamero/default/'
/** Milliseconds until everything is as before, from the moment at which etcd answers again. */
const backMs = 3000
/** Milliseconds in which it is seen how late it was. */
const patienceMs = 30_000
/** Milliseconds without a heartbeat until each instance probes for itself while etcd is away, and one look at it. */
const adviceMs = 7000
const lookMs = 6000

interface Status {
  readonly advice: string
  readonly instances: number
  readonly store: { readonly ok: boolean }
  readonly config: { readonly source: string }
}

/** What was seen of an etcd that was away. */
interface Absence {
  readonly failures: readonly string[]
  readonly completed: number
  readonly restart: { readonly tookMs: number; readonly log: string; readonly source: string }
  /** Per instance, requests not counted. */
  readonly linesPerSecond: Readonly<Record<string, number>>
  /** Of the instance without load, as a share of one core. */
  readonly cpuShare: number
  /** Milliseconds from the moment at which etcd answered again. */
  readonly back: Readonly<Record<'registered' | 'followed' | 'led', number>>
}

/**
 * Tests that an etcd that is away for `ms`, longer than leases last, is missed by nobody who sends requests: one instance has
 * them all the time, one is killed and started again meanwhile, and one has none, and two endpoints that never answer.
 */
export function suiteWithoutEtcd(ms: number): void {
  suite(`etcd away for ${ms / 1000} s`, () => {
    let seen: Absence
    before(async () => {
      await using resources = new AsyncDisposableStack()
      seen = await watchAbsence(ms, resources)
    })

    test('fails no request', () => {
      assert.deepEqual(seen.failures, [])
      assert.ok(seen.completed > ms / 100, `${seen.completed} requests`)
    })

    test('lets an instance that is restarted serve within 3 s, from its snapshot, and say so', (test) => {
      const { tookMs, log, source } = seen.restart
      test.diagnostic(`served after ${Math.round(tookMs)} ms`)
      assert.ok(tookMs <= 3000, `${tookMs} ms`)
      assert.match(log, /"config":"stale"/)
      assert.equal(source, 'snapshot')
    })

    test('is told in fewer lines than it has seconds', (test) => {
      test.diagnostic(JSON.stringify(seen.linesPerSecond))
      for (const [name, rate] of Object.entries(seen.linesPerSecond))
        assert.ok(rate > 0 && rate < 1, `${name}: ${rate} lines a second`)
    })

    test('costs an instance without load less than 2 % of a core', (test) => {
      test.diagnostic(`${(seen.cpuShare * 100).toFixed(2)} %`)
      assert.ok(seen.cpuShare < 0.02, `${seen.cpuShare}`)
    })

    test('is forgotten within 3 s of its return: every instance is registered and follows, and one leads', (test) => {
      test.diagnostic(JSON.stringify(seen.back))
      for (const [what, after] of Object.entries(seen.back))
        assert.ok(after <= backMs, `${what}: ${after} ms`)
    })
  })
}

async function watchAbsence(ms: number, resources: AsyncDisposableStack): Promise<Absence> {
  const stopping = <T extends { stop(): Promise<void> }>(it: T) => resources.adopt(it, (it) => it.stop())
  const etcd = stopping(await startEtcd())
  const node = stopping(await SimulatedNode.start({ name: 'n', models, numParallel: 4 }))
  const start = async (name: string, settings: Record<string, string> = {}) =>
    stopping(await InstanceProcess.start(name, { LLAMERO_ETCD: etcd.endpoint, ...settings }))
  await etcdctlPut(etcd.endpoint, `${root}nodes/n`, `{url: "${node.url}", slots: 4}`)
  // The first one leads: it is another that is killed.
  const steady = await start('steady')
  await until(() => leads(steady), 'it leads', 10_000)
  const idle = await start('idle', {
    LLAMERO_ETCD: `${etcd.endpoint},http://127.0.0.1:1,http://127.0.0.1:2`,
  })
  const killed = await start('killed')
  const isWhole = async (instance: InstanceProcess) =>
    (await routes(instance)) && (await status(instance)).instances === 3
  for (const instance of [steady, idle, killed]) await until(() => isWhole(instance), 'all are in', 10_000)

  const asked = [steady]
  await using load = new Load(() => asked.map(({ url }) => url), 'm:1b', 4)
  const leases = await registrations(etcd)
  await etcd.kill('SIGKILL')
  const awayAt = performance.now()
  const linesBefore = { steady: linesOf(steady), idle: linesOf(idle) }
  await sleep(ms / 2)
  // From here on, what the first seconds cost once, such as compiling the prober, is no part of the share.
  const cpuFrom = performance.now()
  const cpuBeforeMs = cpuMs(idle)
  const slownessBefore = coreSlowness()

  killed.signal('SIGKILL')
  await killed.exited()
  const restartedAt = performance.now()
  const restarted = await start('killed', killed.env)
  assert.equal(await askOnce(restarted.url, 'm:1b'), null)
  const tookMs = performance.now() - restartedAt - starvedMs(restarted.pid)
  const { source } = (await status(restarted)).config
  asked.push(restarted)

  await sleep(awayAt + ms - performance.now())
  const awayMs = performance.now() - awayAt
  const linesPerSecond = {
    steady: ((linesOf(steady) - linesBefore.steady) / awayMs) * 1000,
    idle: ((linesOf(idle) - linesBefore.idle) / awayMs) * 1000,
    restarted: (linesOf(restarted) / (performance.now() - restartedAt)) * 1000,
  }
  const slowness = (slownessBefore + coreSlowness()) / 2
  const cpuShare = (cpuMs(idle) - cpuBeforeMs) / slowness / (performance.now() - cpuFrom)
  for (const instance of awayMs < adviceMs ? [] : [steady, idle]) {
    const own = async () => (await status(instance)).advice === 'own'
    const withinMs = Math.max(0, adviceMs + lookMs - awayMs)
    await until(own, `${instance.name} trusts old advice no longer`, withinMs)
  }

  await etcd.restart()
  const back = await untilBack(etcd, [steady, idle, restarted], leases)
  await load.stop()
  return {
    failures: load.failures,
    completed: load.completed,
    restart: { tookMs, log: restarted.log, source },
    linesPerSecond,
    cpuShare,
    back,
  }
}

async function untilBack(
  etcd: Etcd,
  instances: readonly InstanceProcess[],
  leases: ReadonlyMap<string, string>,
): Promise<Absence['back']> {
  const each = (holds: (instance: InstanceProcess) => Promise<boolean>) => Promise.all(instances.map(holds))
  const [registered, followed, led] = await Promise.all([
    until(async () => areNew(await registrations(etcd), leases), 'all have registered', patienceMs),
    until(async () => (await each(follows)).every(Boolean), 'all follow', patienceMs),
    until(async () => (await each(leads)).some(Boolean), 'one leads', patienceMs),
  ])
  return { registered, followed, led }
}

/** The lease that each instance is registered under. */
async function registrations({ endpoint }: Etcd): Promise<Map<string, string>> {
  const found = await etcdctl(endpoint, 'get', '--prefix', `${root}instances/`, '--write-out=fields')
  const fields = (name: string) => [...found.matchAll(new RegExp(`^"${name}" : (.*)$`, 'gm'))]
  const leases = fields('Lease').map(([, lease = '']) => lease)
  return new Map(fields('Key').map(([, key = ''], n) => [key, leases[n] ?? '']))
}

function areNew(leases: ReadonlyMap<string, string>, before: ReadonlyMap<string, string>): boolean {
  return [...before].every(([key, lease]) => leases.has(key) && leases.get(key) !== lease)
}

async function status(instance: InstanceProcess): Promise<Status> {
  return (await instance.admin('status')) as unknown as Status
}

async function follows(instance: InstanceProcess): Promise<boolean> {
  const { store, config } = await status(instance)
  return store.ok && config.source === 'store'
}

async function leads({ adminUrl }: InstanceProcess): Promise<boolean> {
  return (await fetch(`${adminUrl}/leader`)).ok
}

async function routes({ adminUrl }: InstanceProcess): Promise<boolean> {
  return (await fetch(`${adminUrl}/readyz?model=m:1b`)).ok
}

function linesOf({ log }: InstanceProcess): number {
  return log.split('\n').filter((line) => line !== '' && !line.includes('"message":"request"')).length
}

/** Milliseconds of processor time that it has taken: proc(5), in ticks of 10 ms. */
function cpuMs({ pid }: InstanceProcess): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}
