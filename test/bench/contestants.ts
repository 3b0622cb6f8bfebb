import { access, constants, mkdir, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { freePort } from '../support/processes.ts'
import { startInstance } from './llamero.ts'
import { Program } from './program.ts'

/** Where everything of one run happens. */
export interface Ground {
  /** Temporary: configurations, state and logs. */
  readonly dir: string
  readonly nodePort: number
}

/** Starts one contestant in front of the node; null when it is not installed. */
export type Starter = (ground: Ground) => Promise<Program | null>

/** In the order of the table. */
export const starters: Readonly<Record<string, Starter>> = {
  relay: (ground) => startScript('relay', './relay.ts', ground),
  'http-proxy': (ground) => startScript('http-proxy', './bare-proxy.ts', ground),
  nginx: startNginx,
  haproxy: startHaproxy,
  llamero: startLlamero,
}

/** The node behind all contestants. */
export async function startNode(dir: string): Promise<Program> {
  const port = await freePort()
  return new Program({ name: 'node', ...script('./node.ts', port), port, dir })
}

async function startScript(name: string, path: string, { dir, nodePort }: Ground): Promise<Program> {
  const port = await freePort()
  return new Program({ name, ...script(path, port, nodePort), port, dir })
}

async function startNginx({ dir, nodePort }: Ground): Promise<Program | null> {
  const command = await find('nginx')
  if (!command) return null
  const port = await freePort()
  const prefix = join(dir, 'nginx')
  await mkdir(prefix)
  const config = join(prefix, 'nginx.conf')
  await writeFile(config, nginxConfig(prefix, port, nodePort))
  return new Program({
    name: 'nginx',
    command,
    args: ['-e', 'stderr', '-p', prefix, '-c', config],
    port,
    dir,
  })
}

async function startHaproxy({ dir, nodePort }: Ground): Promise<Program | null> {
  const command = await find('haproxy')
  if (!command) return null
  const port = await freePort()
  const config = join(dir, 'haproxy.cfg')
  await writeFile(config, haproxyConfig(port, nodePort))
  return new Program({ name: 'haproxy', command, args: ['-db', '-f', config], port, dir })
}

/** One node, put through the admin API. */
async function startLlamero({ dir, nodePort }: Ground): Promise<Program> {
  const { program, admin } = await startInstance({ name: 'llamero', dir })
  await admin.change('PUT', 'nodes/bench', { url: `http://127.0.0.1:${nodePort}`, slots: 1024 })
  return program
}

function script(path: string, ...args: readonly number[]) {
  return { command: process.execPath, args: [join(import.meta.dirname, path), ...args.map(String)] }
}

/** Debian puts daemons where a user's PATH does not look. */
export async function find(program: string): Promise<string | null> {
  for (const dir of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']) {
    const path = join(dir, program)
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isThere) return path
  }
  return null
}

/** One worker, nothing logged, kept-alive connections on both sides, every chunk passed on as it comes. */
function nginxConfig(prefix: string, port: number, nodePort: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `
    daemon off;
    worker_processes 1;
    pid ${prefix}/nginx.pid;
    error_log stderr;
    events { worker_connections 8192; }
    http {
      access_log off;
      ${temporary.map((each) => `${each}_temp_path ${prefix}/${each};`).join('\n      ')}
      keepalive_requests 1000000;
      upstream node {
        server 127.0.0.1:${nodePort};
        keepalive 1024;
        keepalive_requests 1000000;
      }
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://node;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_buffering off;
        }
      }
    }
  `
}

/** One thread, nothing logged, kept-alive connections on both sides, every chunk passed on as it comes. */
function haproxyConfig(port: number, nodePort: number): string {
  return `
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-no-delay
  http-reuse always
  timeout connect 2s
  timeout client 1h
  timeout server 1h
frontend callers
  bind 127.0.0.1:${port}
  default_backend node
backend node
  server node 127.0.0.1:${nodePort}
`
}
