import { type ChildProcess, type ChildProcessByStdio, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort, until } from './processes.ts'
import { findProgram } from './programs.ts'

const run = promisify(execFile)

export interface Etcd {
  /** `http://127.0.0.1:port`, or https; the same after a restart. */
  readonly endpoint: string
  /** Of the process that runs, or ran last. */
  readonly pid: number
  /** Sends a signal; resolves once the process is gone or stopped, for signals that do that. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** Ends the process when it still runs and starts it again on the same data and port; resolves when it is healthy. */
  restart(): Promise<void>
  /** Ends the process and deletes its data. Safe to call twice. */
  stop(): Promise<void>
}

interface Place {
  /** Where it listens; loopback by default. */
  readonly host?: string
  /** Of the data; a temporary one by default. `stop` deletes it. */
  readonly dir?: string
  /** For clients; a free one by default. */
  readonly port?: number
  /** What else etcd is started with, by the flags' names. */
  readonly flags?: Flags
}

type Flags = Readonly<Record<string, string>>

/** A real etcd of one member on loopback; with certificates among its flags, clients have to speak TLS. */
export async function startEtcd({ host = '127.0.0.1', dir, port, flags = {} }: Place = {}): Promise<Etcd> {
  const peer = `http://127.0.0.1:${await freePort()}`
  const scheme = flags['cert-file'] ? 'https' : 'http'
  const { etcd, healthy } = await spawnMember(dir ?? (await mkdtemp(join(tmpdir(), 'llamero-etcd-'))), {
    name: 'test',
    'listen-client-urls': `${scheme}://${host}:${port ?? (await freePort())}`,
    'listen-peer-urls': peer,
    'initial-cluster': `test=${peer}`,
    ...flags,
  })
  await healthy.catch(async (error: unknown) => {
    await etcd.stop()
    throw error
  })
  return etcd
}

/**
 * One member, possibly of several: it listens at once and is healthy when enough of the others are there.
 *
 * @param flags with at least `listen-client-urls`, `listen-peer-urls` and `initial-cluster`, one URL in each of the first two.
 */
export async function spawnMember(
  dir: string,
  flags: Flags,
): Promise<{ readonly etcd: Etcd; readonly healthy: Promise<void> }> {
  const program = await findEtcd()
  const endpoint = flags['listen-client-urls'] ?? ''
  // Without TLS, also when clients use TLS.
  const metrics = `http://127.0.0.1:${await freePort()}`
  const all: Flags = {
    ...flags,
    'data-dir': dir,
    'advertise-client-urls': endpoint,
    'initial-advertise-peer-urls': flags['listen-peer-urls'] ?? '',
    'listen-metrics-urls': metrics,
    'log-level': 'fatal',
    logger: 'zap',
  }
  let child = spawnEtcd(program, all)
  const kill = async (signal: NodeJS.Signals) => {
    if (hasEnded(child)) return
    const isLast = signal === 'SIGKILL' || signal === 'SIGTERM'
    const ended = isLast ? once(child, 'exit') : null
    child.kill(signal)
    await ended
    if (signal === 'SIGSTOP') await untilStopped(child.pid ?? 0)
  }
  const etcd: Etcd = {
    endpoint,
    get pid() {
      return child.pid ?? 0
    },
    kill,
    async restart() {
      await kill('SIGKILL')
      child = spawnEtcd(program, all)
      await untilHealthy(child, metrics)
    },
    async stop() {
      await kill('SIGKILL')
      await rm(dir, { recursive: true, force: true })
    },
  }
  return { etcd, healthy: untilHealthy(child, metrics) }
}

/** A stop takes each thread when it runs next: until then the process may answer. */
async function untilStopped(pid: number): Promise<void> {
  const stateOf = async (task: string) => {
    const stat = await readFile(`/proc/${pid}/task/${task}/stat`, 'utf8').catch(() => ') T')
    return stat[stat.lastIndexOf(')') + 2]
  }
  const states = async () => Promise.all((await readdir(`/proc/${pid}/task`)).map(stateOf))
  await until(async () => (await states()).every((state) => state === 'T'), 'etcd is stopped', 5000)
}

/** Runs `etcdctl` against an endpoint and returns what it printed. */
export async function etcdctl(endpoint: string, ...args: readonly string[]): Promise<string> {
  const program = await findEtcdctl()
  const env = { ...process.env, ETCDCTL_API: '3' }
  return (await run(program, ['--endpoints', endpoint, ...args], { env })).stdout
}

/** `etcdctl put` as from a file: of any size, and any bytes. */
export async function etcdctlPut(endpoint: string, key: string, value: string | Buffer): Promise<void> {
  const env = { ...process.env, ETCDCTL_API: '3' }
  const done = run(await findEtcdctl(), ['--endpoints', endpoint, 'put', key], { env })
  done.child.stdin?.end(value)
  await done
}

export function findEtcdctl(): Promise<string> {
  return findProgram('etcdctl', 'etcd-client')
}

/** The path of an `etcd`: of the PATH, else of Debian's package, unpacked into a cache folder. */
export function findEtcd(): Promise<string> {
  return findProgram('etcd', 'etcd-server')
}

type EtcdProcess = ChildProcessByStdio<null, null, Readable>

function spawnEtcd(program: string, flags: Flags): EtcdProcess {
  const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  child.on('error', () => {})
  const endWithUs = () => child.kill('SIGKILL')
  process.once('exit', endWithUs)
  child.once('exit', () => process.off('exit', endWithUs))
  return child
}

async function untilHealthy(child: EtcdProcess, url: string): Promise<void> {
  let said = ''
  child.stderr.on('data', (chunk) => (said = (said + chunk).slice(-2000)))
  const deadline = Date.now() + 20_000
  while (Date.now() < deadline) {
    if (hasEnded(child))
      throw new Error(`etcd ended with code ${child.exitCode} before it was healthy: ${said}`)
    const answer = await fetch(`${url}/health`, { signal: AbortSignal.timeout(1000) }).catch(() => null)
    if (answer?.ok && (await answer.text()).includes('"true"')) return
    await sleep(50)
  }
  throw new Error('etcd is not healthy after 20 s')
}

function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null
}
