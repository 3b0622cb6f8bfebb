import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../support/processes.ts'
import { chat } from './chat.ts'
import { Connection } from './connection.ts'

interface ProgramOptions {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  /** Where it will listen, on loopback. */
  readonly port: number
  /** Its output goes to `<dir>/<name>.log`. */
  readonly dir: string
  readonly env?: NodeJS.ProcessEnv
}

/** A process that takes part: a contestant, or the node behind them. */
export class Program {
  readonly name: string
  readonly port: number
  readonly #child: ChildProcess
  readonly #log: string

  constructor({ name, command, args, port, dir, env = process.env }: ProgramOptions) {
    this.name = name
    this.port = port
    this.#log = join(dir, `${name}.log`)
    const out = openSync(this.#log, 'a')
    this.#child = spawn(command, args, { env, stdio: ['ignore', out, out] })
    closeSync(out)
    this.#child.on('error', () => {}) // it never runs, which `reaches` reports
    const endWithUs = () => this.#child.kill('SIGINT')
    process.once('exit', endWithUs)
    this.#child.once('exit', () => process.off('exit', endWithUs))
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Resolves when a chat request gets its answer; rejects as `reaches` does. */
  answers(): Promise<void> {
    return this.reaches('answers', async () => {
      const connection = await Connection.open(this.port)
      await connection.send(chat()).finally(() => connection.close())
      return true
    })
  }

  /** Resolves when the condition holds; when it does not within 15 s, ends the process and rejects with the end of its log. */
  async reaches(what: string, condition: () => Promise<boolean>): Promise<void> {
    try {
      await until(condition, `${this.name} ${what}`, 15_000)
    } catch (cause) {
      await this.stop()
      throw new Error(`${String(cause)}\n${readFileSync(this.#log, 'utf8').slice(-2000)}`, { cause })
    }
  }

  /** Ends the process; one that does not obey within two seconds is killed. */
  async stop(): Promise<void> {
    if (this.pid === 0 || this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGINT')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 2000)
    await ended
    clearTimeout(timer)
  }
}
