/**
 * `npm run cluster`: an etcd, three instances and three simulated nodes on this machine, to watch and to break. Prints
 * the leader on every change. Ctrl-C ends every process and removes every file.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { Informer } from '../../lib/store/informer.ts'
import { KeyLayout } from '../../lib/store/key-layout.ts'
import { type Etcd, startEtcd } from './etcd.ts'
import { executable, InstanceProcess, until } from './processes.ts'

interface Node {
  readonly name: string
  readonly url: string
  readonly child: ChildProcess
}

const keys = new KeyLayout('default')
const clock = new RealClock()
const say = (line: string) => process.stdout.write(`${line}\n`)

const interrupted = new Promise<void>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve())
})
await using started = new AsyncDisposableStack()
// Also when every child has been killed by hand there are files left to remove.
const awake = setInterval(() => {}, 2 ** 31 - 1)
started.defer(() => clearInterval(awake))
await Promise.race([start(), interrupted])
await interrupted
say('stopping')

async function start(): Promise<void> {
  const etcd = await ending(startEtcd())
  const [instances, nodes] = await Promise.all([
    Promise.all(['a', 'b', 'c'].map((name) => startInstance(name, etcd))),
    Promise.all(['n1', 'n2', 'n3'].map(startNode)),
  ])
  const store = new EtcdStore({ endpoints: [etcd.endpoint], clock, log: silentLog })
  started.defer(() => store.close())
  await register(nodes, store)
  const isReady = async () => (await fetch(`${instances[0]?.adminUrl}/readyz?model=llama3.2:3b`)).ok
  await until(isReady, 'the nodes are known', 15_000)
  say(addresses(etcd, instances, nodes))
  const leader = await followLeader(store, instances)
  say(trials(leader, instances, nodes))
}

/** Ends what is being started when everything ends, also when that is before it runs. */
function ending<T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> {
  started.defer(() => starting.then((it) => it.stop()).catch(() => {}))
  return starting
}

async function startInstance(name: string, { endpoint }: Etcd): Promise<InstanceProcess> {
  const settings = {
    LLAMERO_ETCD: endpoint,
    LLAMERO_LOG_LEVEL: 'warn',
    LLAMERO_LOG_FORMAT: 'text',
  }
  const instance = await ending(InstanceProcess.start(name, settings))
  instance.onLine((line) => say(`${name}: ${line}`))
  return instance
}

async function startNode(name: string): Promise<Node> {
  const args = ['simulate', 'node', name, '--slots', '2', '--speed', '4']
  const child = fork(executable, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  started.defer(() => void child.kill('SIGKILL'))
  const [{ url }] = (await once(child, 'message')) as [{ url: string }]
  return { name, url, child }
}

async function register(nodes: readonly Node[], store: EtcdStore): Promise<void> {
  const apply = nodes.map(({ name, url }) => {
    return { type: 'put', key: keys.node(name), value: JSON.stringify({ url, slots: 2 }) } as const
  })
  await store.commit({ when: [], apply })
}

/** Prints the leader, now and on every change. Resolves to the first leader. */
async function followLeader(
  store: EtcdStore,
  instances: readonly InstanceProcess[],
): Promise<InstanceProcess> {
  const { promise, resolve } = Promise.withResolvers<InstanceProcess>()
  let said: InstanceProcess | undefined
  const look = () => {
    const id = informer.entries.get(keys.leader)?.value
    const leader = instances.find(({ name }) => name === id)
    if (!leader || leader === said) return
    said = leader
    say(`leader: ${leader.name}, pid ${leader.pid}`)
    resolve(leader)
  }
  const informer = new Informer({
    store,
    prefix: keys.root,
    clock,
    random: Math.random,
    log: silentLog,
    changed: look,
  })
  informer.start()
  started.defer(() => informer.stop())
  return promise
}

function addresses(etcd: Etcd, instances: readonly InstanceProcess[], nodes: readonly Node[]): string {
  return [
    `etcd        ${etcd.endpoint}  pid ${etcd.pid}`,
    ...instances.map(
      ({ name, url, adminUrl, env, pid }) =>
        `instance ${name}  ${url}  admin ${adminUrl}  state ${env['LLAMERO_STATE']}  pid ${pid}`,
    ),
    ...nodes.map(({ name, url, child }) => `node ${name}     ${url}  pid ${child.pid}`),
  ].join('\n')
}

function trials(
  leader: InstanceProcess,
  instances: readonly InstanceProcess[],
  nodes: readonly Node[],
): string {
  const standby = instances.find((instance) => instance !== leader) ?? leader
  const { LLAMERO_STATE: state, LLAMERO_ETCD: endpoint } = standby.env
  const message = '{"model":"llama3.2:3b","messages":[{"role":"user","content":"hello"}]}'
  return [
    'Try:',
    `  curl ${standby.url}/api/chat -d '${message}'`,
    `  npm run llamero -- --admin-url ${standby.adminUrl} status`,
    `  export LLAMERO_ADMIN_URL=${standby.adminUrl} LLAMERO_STATE=${state}    # for changes, as the next one`,
    '  npm run llamero -- node cordon n1',
    `  etcdctl --endpoints ${endpoint} get --prefix ${keys.root}`,
    `  kill -9 ${leader.pid}    # the leader: another one leads within 11 seconds`,
    `  kill -9 ${nodes[0]?.child.pid}    # a node: ask again`,
    'Warnings of the instances follow. Ctrl-C stops it and leaves nothing behind.',
  ].join('\n')
}
