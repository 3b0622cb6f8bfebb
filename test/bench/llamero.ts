import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { adminTokenFile } from '../../lib/settings/admin-token.ts'
import { freePort } from '../support/processes.ts'
import { Program } from './program.ts'

interface InstanceOptions {
  readonly name: string
  /** Temporary: state and log. */
  readonly dir: string
  /** For Node, before the program. */
  readonly nodeArgs?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
}

export interface Instance {
  readonly program: Program
  readonly admin: Admin
}

/** An instance as the systemd unit starts it, with its options for Node; default settings, embedded store. Resolves when it is ready. */
export async function startInstance({ name, dir, nodeArgs = [], env }: InstanceOptions): Promise<Instance> {
  const [port, adminPort] = [await freePort(), await freePort()]
  const state = join(dir, `${name}-state`)
  const program = new Program({
    name,
    command: process.execPath,
    args: [...nodeArgs, join(import.meta.dirname, '../../bin/llamero.js'), 'serve'],
    port,
    dir,
    env: {
      PATH: process.env['PATH'],
      NODE_OPTIONS: await unitNodeOptions(),
      LLAMERO_CONFIG: '/dev/null', // the machine's own settings are not the bench's
      LLAMERO_NAME: 'bench',
      LLAMERO_STATE: state,
      LLAMERO_LISTEN: `127.0.0.1:${port}`,
      LLAMERO_ADMIN: `127.0.0.1:${adminPort}`,
      LLAMERO_LOG_LEVEL: 'info',
      ...env,
    },
  })
  const url = `http://127.0.0.1:${adminPort}`
  await program.reaches('is ready', async () => (await fetch(`${url}/readyz`)).ok)
  return { program, admin: new Admin(url, (await readFile(adminTokenFile(state), 'utf8')).trim()) }
}

/** The admin API of an instance. */
export class Admin {
  readonly url: string
  readonly #token: string

  constructor(url: string, token: string) {
    this.url = url
    this.#token = token
  }

  /** @throws Error with the answer's text when it is no success. */
  async change(method: string, path: string, body: object): Promise<Readonly<Record<string, unknown>>> {
    const headers = { authorization: `Bearer ${this.#token}`, 'content-type': 'application/json' }
    const answer = await fetch(`${this.url}/admin/v1/${path}`, {
      method,
      headers,
      body: JSON.stringify(body),
    })
    if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`)
    return (await answer.json()) as Readonly<Record<string, unknown>>
  }
}

async function unitNodeOptions(): Promise<string> {
  const unit = await readFile(join(import.meta.dirname, '../../deploy/systemd/llamero.service'), 'utf8')
  const options = /^Environment="NODE_OPTIONS=(.*)"$/m.exec(unit)?.[1]
  if (!options) throw new Error('llamero.service sets no NODE_OPTIONS')
  return options
}
