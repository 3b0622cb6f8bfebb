import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Policy } from '../../lib/fleet/policies.ts'
import { freePort } from '../support/processes.ts'
import { find } from './contestants.ts'
import { type Admin, startInstance } from './llamero.ts'
import { Program } from './program.ts'
import type { LiveNode } from './routing-live-node.ts'

/** What a contestant is put in front of. */
export interface Scene {
  /** Temporary: configurations, state and logs. */
  readonly dir: string
  readonly nodes: readonly LiveNode[]
  readonly tenants: readonly string[]
  readonly speed: number
}

export interface Started {
  readonly program: Program
  /** What callers prove themselves with, by tenant. */
  readonly tokens: ReadonlyMap<string, string>
}

export interface LiveContestant {
  readonly name: string
  /** The rehearsal's name for what it does. */
  readonly policy: Policy
  /** Resolves to null when it is not installed. */
  readonly start: (scene: Scene) => Promise<Started | null>
}

export const liveContestants: readonly LiveContestant[] = [
  llamero('earliest-finish'),
  llamero('resident-first'),
  llamero('least-connections'),
  { name: 'HAProxy leastconn', policy: 'least-connections', start: startHaproxy },
  { name: 'nginx least_conn', policy: 'least-connections', start: startNginx },
]

function llamero(policy: Policy): LiveContestant {
  return { name: `llamero ${policy}`, policy, start: (scene) => startLlamero(policy, scene) }
}

/** With a key for each tenant; only its clock is faster. */
async function startLlamero(policy: Policy, scene: Scene): Promise<Started> {
  const { dir, speed, nodes } = scene
  const clock = join(import.meta.dirname, 'routing-live-clock.ts')
  const options = { nodeArgs: ['--import', clock], env: { BENCH_SPEED: String(speed) } }
  const { program, admin } = await startInstance({ name: policy, dir, ...options })
  try {
    const tokens = await introduce(admin, policy, scene)
    await program.reaches('sees its nodes', () => seesAll(admin, nodes.length))
    return { program, tokens }
  } catch (error) {
    await program.stop()
    throw error
  }
}

/** Sets the policy, makes the keys and puts the nodes. Resolves to the tokens by tenant. */
async function introduce(admin: Admin, policy: Policy, { nodes, tenants }: Scene) {
  await admin.change('PATCH', 'config', { routing: { policy } })
  for (const { plan, port } of nodes) {
    await admin.change('PUT', `nodes/${plan.name}`, {
      url: `http://127.0.0.1:${port}`,
      slots: plan.slots,
      memory: plan.memory,
      max_loaded: plan.maxLoaded,
    })
  }
  const tokens = new Map<string, string>()
  for (const tenant of tenants) {
    const { token } = await admin.change('POST', 'keys', { id: tenant, tenant })
    tokens.set(tenant, String(token))
  }
  return tokens
}

async function seesAll({ url }: Admin, count: number): Promise<boolean> {
  const answer = await fetch(`${url}/admin/v1/nodes`)
  const { nodes } = (await answer.json()) as { readonly nodes: readonly { readonly health: string }[] }
  return nodes.length === count && nodes.every(({ health }) => health === 'up')
}

async function startHaproxy({ dir, nodes }: Scene): Promise<Started | null> {
  const command = await find('haproxy')
  if (!command) return null
  const port = await freePort()
  const config = join(dir, 'haproxy.cfg')
  await writeFile(config, haproxyConfig(port, poolsOf(nodes)))
  return listening(new Program({ name: 'haproxy', command, args: ['-db', '-f', config], port, dir }))
}

async function startNginx({ dir, nodes }: Scene): Promise<Started | null> {
  const command = await find('nginx')
  if (!command) return null
  const port = await freePort()
  const prefix = join(dir, 'nginx')
  await mkdir(prefix)
  const config = join(prefix, 'nginx.conf')
  await writeFile(config, nginxConfig(prefix, port, poolsOf(nodes)))
  const args = ['-e', 'stderr', '-p', prefix, '-c', config]
  return listening(new Program({ name: 'nginx', command, args, port, dir }))
}

async function listening(program: Program): Promise<Started> {
  await program.reaches(
    'listens',
    async () => (await fetch(`http://127.0.0.1:${program.port}/api/version`)).ok,
  )
  return { program, tokens: new Map() }
}

/** Nodes that have the same models. */
interface Pool {
  readonly name: string
  readonly models: readonly string[]
  readonly ports: readonly number[]
}

/**
 * A model that some nodes cannot hold is on the others' disks only. Those who cannot know that get it configured: one pool
 * for each set of nodes, and callers who say in a header which model they want. The first is of all nodes.
 */
function poolsOf(nodes: readonly LiveNode[]): Pool[] {
  const portsOf = (model: string) => nodes.filter((node) => node.models.has(model)).map(({ port }) => port)
  const models = [...new Set(nodes.flatMap((node) => [...node.models]))]
  const bySet = Map.groupBy(models, (model) => portsOf(model).join())
  return [...bySet.values()]
    .map((own) => ({ models: own, ports: portsOf(own[0] ?? '') }))
    .sort((a, b) => b.ports.length - a.ports.length)
    .map((pool, index) => ({ ...pool, name: `pool${index}` }))
}

/** As Debian ships it, one thread, kept-alive connections on both sides, and patient, since queues will be long. */
function haproxyConfig(port: number, pools: readonly Pool[]): string {
  const rules = pools.map(
    ({ name, models }) => `  use_backend ${name} if { req.hdr(x-model) ${models.join(' ')} }`,
  )
  const backends = pools.map(
    ({ name, ports }) => `
backend ${name}
  balance leastconn
${ports.map((each, index) => `  server n${index} 127.0.0.1:${each}`).join('\n')}`,
  )
  return `
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-no-delay
  timeout connect 2s
  timeout client 1h
  timeout server 1h
frontend callers
  bind 127.0.0.1:${port}
${rules.join('\n')}
  default_backend ${pools[0]?.name}
${backends.join('\n')}
`
}

/** One worker, nothing buffered, kept-alive connections on both sides, and patient, since queues will be long. */
function nginxConfig(prefix: string, port: number, pools: readonly Pool[]): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  const names = pools.flatMap(({ name, models }) => models.map((model) => `${model} ${name};`))
  const upstreams = pools.map(
    ({ name, ports }) => `
      upstream ${name} {
        least_conn;
        ${ports.map((each) => `server 127.0.0.1:${each} max_fails=0;`).join('\n        ')}
        keepalive 1024;
      }`,
  )
  return `
    daemon off;
    worker_processes 1;
    pid ${prefix}/nginx.pid;
    error_log stderr;
    events { worker_connections 8192; }
    http {
      access_log off;
      ${temporary.map((each) => `${each}_temp_path ${prefix}/${each};`).join('\n      ')}
      client_body_buffer_size 128k;
      map $http_x_model $pool {
        default ${pools[0]?.name};
        ${names.join('\n        ')}
      }
      ${upstreams.join('\n')}
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://$pool;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_buffering off;
          proxy_read_timeout 1h;
          proxy_next_upstream off;
        }
      }
    }
  `
}
