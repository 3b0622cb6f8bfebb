import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { findEtcdctl } from './etcd.ts'

const run = promisify(execFile)

/** The shell blocks of a page, in their order: those marked `sh`, which a test runs. */
export function shellBlocks(page: string): string[] {
  return [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block ?? '')
}

/** A shell in a folder of its own in which documented commands run: `etcdctl` is there, addresses are other ones. */
export class Shell {
  /** Where its commands run and leave their files. */
  readonly folder: string
  readonly #env: NodeJS.ProcessEnv
  readonly #replacements = new Map<string, string>()
  readonly #children: ChildProcess[] = []

  private constructor(folder: string, env: NodeJS.ProcessEnv) {
    this.folder = folder
    this.#env = env
  }

  /** @param env what its commands find in their environment, besides that of the test. */
  static async start(env: NodeJS.ProcessEnv = {}): Promise<Shell> {
    const folder = await mkdtemp(join(tmpdir(), 'llamero-shell-'))
    const path = `${folder}:${join(await findEtcdctl(), '..')}:${process.env['PATH']}`
    return new Shell(folder, { ...process.env, LLAMERO_LOG_LEVEL: 'error', ...env, PATH: path })
  }

  /** From now on commands say `used` where the page says `written`. */
  replace(written: string, used: string): void {
    this.#replacements.set(written, used)
  }

  /** Gives its commands one more program. */
  async install(name: string, script: string): Promise<void> {
    await writeFile(join(this.folder, name), script, { mode: 0o755 })
  }

  /** What is used in place of `written`. */
  used(written: string): string {
    return this.#replacements.get(written) ?? written
  }

  set(name: string, value: string): void {
    this.#env[name] = this.#replaced(value)
  }

  /** Resolves to what the commands printed; rejects when one fails. */
  async run(commands: string, cwd = this.folder): Promise<string> {
    const options = { cwd, env: this.#env, timeout: 120_000 }
    return (await run('sh', ['-ec', this.#replaced(commands)], options)).stdout
  }

  /** Runs a command until the end of the test. Each has a process group: npm starts processes of its own. */
  spawn(command: string, cwd = this.folder): void {
    const options = { cwd, env: this.#env, detached: true, stdio: 'ignore' as const }
    this.#children.push(spawn('sh', ['-ec', this.#replaced(command)], options))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      process.kill(-(child.pid ?? 0), 'SIGKILL')
      await once(child, 'exit')
    }
    await rm(this.folder, { recursive: true, force: true })
  }

  /** At once: a replacement is not replaced again. */
  #replaced(text: string): string {
    const written = [...this.#replacements.keys()].sort((a, b) => b.length - a.length)
    if (written.length === 0) return text
    const any = new RegExp(written.map((each) => each.replaceAll('.', '\\.')).join('|'), 'g')
    return text.replace(any, (each) => this.used(each))
  }
}
