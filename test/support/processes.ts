import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'

export const executable = fileURLToPath(new URL('../../bin/llamero.js', import.meta.url))

/**
 * Ports for servers under test lie below 32768, where Linux starts the ports it hands to outgoing connections
 * (`net.ipv4.ip_local_port_range`): no connection of another test can take one between our look and the server's start.
 * Test files run in parallel processes, so each process begins elsewhere and counts up.
 */
const firstPort = 12_000
const ports = 20_000
let nextPort = Math.floor(Math.random() * ports)

/** A port on which no server listens at the moment. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = firstPort + (nextPort++ % ports)
    const server = createServer().listen(port)
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    if (!isFree) continue
    server.close()
    await once(server, 'close')
    return port
  }
}

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Where a process runs: `address` is its own, `command` is put before its command line. */
export interface Place {
  readonly address: string
  readonly command: readonly string[]
}

const loopback: Place = { address: '127.0.0.1', command: [] }

/** Starts one `llamero` command line. */
export function spawnLlamero(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  { command }: Place = loopback,
): ChildProcessByStdio<null, Readable, Readable> {
  const [program = process.execPath, ...rest] = [...command, process.execPath, executable, ...args]
  const child = spawn(program, rest, {
    env: { ...ownEnvironment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  // Also when the set-up of a test fails, and what would stop it does not run.
  const endWithUs = () => child.kill('SIGKILL')
  process.once('exit', endWithUs)
  child.once('exit', () => process.off('exit', endWithUs))
  return child
}

/** Runs one `llamero` command line to its end. */
export async function llamero(args: readonly string[], env: Record<string, string> = {}): Promise<Finished> {
  const child = spawnLlamero(args, env)
  const out = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => (out.stdout += chunk))
  child.stderr.on('data', (chunk) => (out.stderr += chunk))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, ...out }
}

/** An instance in a process of its own. */
export class InstanceProcess {
  readonly name: string
  readonly url: string
  readonly adminUrl: string
  readonly env: Record<string, string>
  readonly #child: ReturnType<typeof spawnLlamero>
  #log = ''

  private constructor(name: string, env: Record<string, string>, command: string, place: Place) {
    this.name = name
    this.env = env
    this.url = `http://${env['LLAMERO_LISTEN']}`
    this.adminUrl = `http://${env['LLAMERO_ADMIN']}`
    this.#child = spawnLlamero([command], env, place)
    this.#child.stdout.on('data', (chunk) => (this.#log += chunk))
    this.#child.stderr.on('data', (chunk) => (this.#log += chunk))
  }

  /** Calls `tell` with each line that the instance prints from now on. */
  onLine(tell: (line: string) => void): void {
    for (const stream of [this.#child.stdout, this.#child.stderr])
      createInterface({ input: stream }).on('line', tell)
  }

  /** Starts `llamero serve` (or another command) on free ports; resolves once it is ready. */
  static async start(
    name: string,
    settings: Record<string, string> = {},
    command = 'serve',
    place = loopback,
  ): Promise<InstanceProcess> {
    const state = settings['LLAMERO_STATE'] ?? (await mkdtemp(join(tmpdir(), `llamero-${name}-`)))
    const env = {
      LLAMERO_NAME: name,
      LLAMERO_STATE: state,
      LLAMERO_LISTEN: `${place.address}:${await freePort()}`,
      LLAMERO_ADMIN: `${place.address}:${await freePort()}`,
      LLAMERO_LOG_FORMAT: 'json',
      ...settings,
    }
    const instance = new InstanceProcess(
      name,
      { ...env, LLAMERO_ADMIN_URL: `http://${env.LLAMERO_ADMIN}` },
      command,
      place,
    )
    try {
      const isReady = async () => (await fetch(`${instance.adminUrl}/readyz`)).ok
      await until(() => instance.#hasEnded || isReady(), `${name} is ready`, 30_000)
      if (instance.#hasEnded) throw new Error(`${name} ended before it was ready`)
    } catch (error) {
      await instance.stop()
      throw new Error(`${(error as Error).message}\n${instance.log}`)
    }
    return instance
  }

  /** All it has printed. */
  get log(): string {
    return this.#log
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Resolves to the exit code, null when a signal ended it. */
  async exited(): Promise<number | null> {
    if (!this.#hasEnded) await once(this.#child, 'exit')
    return this.#child.exitCode
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** A CLI command against this instance. */
  cli(...args: string[]): Promise<Finished> {
    return llamero(args, this.env)
  }

  async admin(path: string): Promise<Record<string, unknown>> {
    return (await (await fetch(`${this.adminUrl}/admin/v1/${path}`)).json()) as Record<string, unknown>
  }

  async stop(): Promise<void> {
    this.signal('SIGKILL')
    await this.exited()
    await rm(this.env['LLAMERO_STATE'] ?? '', { recursive: true, force: true })
  }
}

/** Resolves to the milliseconds until `condition` held; rejects when it does not within `withinMs`, naming what was waited for. */
export async function until(
  condition: () => Promise<boolean> | boolean,
  what: string,
  withinMs: number,
): Promise<number> {
  const since = performance.now()
  for (;;) {
    if (await Promise.resolve(condition()).catch(() => false)) return performance.now() - since
    if (performance.now() - since > withinMs) throw new Error(`not within ${withinMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Our environment without settings of llamero that the developer may have set. */
function ownEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LLAMERO_')))
}
