import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:fs'
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface Etcd {
  /** `http://127.0.0.1:port`, the same after a restart. */
  readonly endpoint: string
  /** Of the process that runs, or ran last. */
  readonly pid: number
  /** Sends a signal; resolves once the process is gone for those that end it, at once for the others. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** Ends the process when it still runs and starts it again on the same data and port; resolves when it is healthy. */
  restart(): Promise<void>
  /** Ends the process and deletes its data. Safe to call twice. */
  stop(): Promise<void>
}

interface Place {
  /** Of the data; a temporary one by default. `stop` deletes it. */
  readonly dir?: string
  /** For clients; a free one by default. */
  readonly port?: number
}

/** A real etcd of one member on loopback. */
export async function startEtcd(place: Place = {}): Promise<Etcd> {
  const program = await findEtcd()
  const dir = place.dir ?? (await mkdtemp(join(tmpdir(), 'llamero-etcd-')))
  const endpoint = `http://127.0.0.1:${place.port ?? (await freePort())}`
  const peer = `http://127.0.0.1:${await freePort()}`
  const start = () => spawnEtcd(program, dir, endpoint, peer)

  let child = start()
  const kill = async (signal: NodeJS.Signals) => {
    if (hasEnded(child)) return
    const ended = once(child, 'exit')
    child.kill(signal)
    if (signal === 'SIGKILL' || signal === 'SIGTERM') await ended
  }
  const stop = async () => {
    await kill('SIGKILL')
    await rm(dir, { recursive: true, force: true })
  }
  const etcd: Etcd = {
    endpoint,
    get pid() {
      return child.pid ?? 0
    },
    kill,
    async restart() {
      await kill('SIGKILL')
      child = start()
      await healthy(child, endpoint)
    },
    stop,
  }
  await healthy(child, endpoint).catch(async (error: unknown) => {
    await stop()
    throw error
  })
  return etcd
}

/** A way to etcd that can fail while etcd itself goes on. */
export class Road {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #state: 'open' | 'cut' | 'mute' = 'open'

  /** @param endpoint where the road leads, `http://host:port`. */
  constructor(endpoint: string) {
    const { hostname: host, port } = new URL(endpoint)
    this.#server = createServer((near) => {
      this.#keep(near)
      if (this.#state === 'cut') near.destroy()
      if (this.#state !== 'open') return
      const far = connect({ host, port: Number(port) })
      this.#keep(far)
      near.pipe(far).pipe(near)
      near.once('close', () => far.destroy())
      far.once('close', () => near.destroy())
    })
  }

  /** Returns the endpoint of the near end. */
  async open(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${portOf(this.#server)}`
  }

  /** Ends every connection, and new ones at once. */
  cut(): void {
    this.#state = 'cut'
    for (const socket of this.#sockets) socket.destroy()
  }

  /** New connections are accepted and never answered. */
  mute(): void {
    this.#state = 'mute'
  }

  /** New connections reach etcd again. */
  heal(): void {
    this.#state = 'open'
  }

  async close(): Promise<void> {
    this.cut()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => this.#sockets.delete(socket))
  }
}

/** Runs `etcdctl` against an endpoint and returns what it printed. */
export async function etcdctl(endpoint: string, ...args: readonly string[]): Promise<string> {
  const program = await findEtcdctl()
  const env = { ...process.env, ETCDCTL_API: '3' }
  return (await run(program, ['--endpoints', endpoint, ...args], { env })).stdout
}

export function findEtcdctl(): Promise<string> {
  return find('etcdctl', 'etcd-client')
}

/** The path of an `etcd`: of the PATH, else of Debian's package, unpacked into a cache folder. */
export function findEtcd(): Promise<string> {
  return find('etcd', 'etcd-server')
}

async function find(program: string, debianPackage: string): Promise<string> {
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) {
    if (await isExecutable(join(dir, program))) return join(dir, program)
  }
  const cached = join(process.env['XDG_CACHE_HOME'] ?? tmpdir(), 'llamero', debianPackage)
  const path = join(cached, 'usr', 'bin', program)
  if (await isExecutable(path)) return path
  await unpack(debianPackage, cached).catch((cause: unknown) => {
    throw new Error(
      `${program} is needed: install it (Debian: apt install ${debianPackage}) or put it on the PATH`,
      {
        cause,
      },
    )
  })
  return path
}

/** Downloads and unpacks a package of Debian's, which needs no root; several test processes may do it at once. */
async function unpack(debianPackage: string, target: string): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'llamero-unpack-'))
  try {
    await run('apt-get', ['download', debianPackage], { cwd: work })
    const archive = (await readdir(work)).find((name) => name.endsWith('.deb'))
    if (!archive) throw new Error(`apt-get downloaded no ${debianPackage}`)
    const fresh = `${target}.${process.pid}`
    await mkdir(fresh, { recursive: true })
    await run('dpkg-deb', ['-x', join(work, archive), fresh])
    // Whoever came first has put the same files there.
    await rename(fresh, target).catch(() => rm(fresh, { recursive: true, force: true }))
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

function spawnEtcd(program: string, dir: string, endpoint: string, peer: string): ChildProcess {
  const flags = {
    name: 'test',
    'data-dir': dir,
    'listen-client-urls': endpoint,
    'advertise-client-urls': endpoint,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    'initial-cluster': `test=${peer}`,
    'log-level': 'fatal',
    logger: 'zap',
  }
  const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'ignore'] })
  child.on('error', () => {})
  const endWithUs = () => child.kill('SIGKILL')
  process.once('exit', endWithUs)
  child.once('exit', () => process.off('exit', endWithUs))
  return child
}

async function healthy(child: ChildProcess, endpoint: string): Promise<void> {
  const deadline = Date.now() + 20_000
  while (Date.now() < deadline) {
    if (hasEnded(child)) throw new Error(`etcd ended with code ${child.exitCode} before it was healthy`)
    const answer = await fetch(`${endpoint}/health`, { signal: AbortSignal.timeout(1000) }).catch(() => null)
    if (answer?.ok && (await answer.text()).includes('"true"')) return
    await sleep(50)
  }
  throw new Error(`etcd at ${endpoint} is not healthy after 20 s`)
}

function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const port = portOf(server)
  server.close()
  await once(server, 'close')
  return port
}

function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return address.port
}
