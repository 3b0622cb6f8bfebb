import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { askOnce } from '../support/load.ts'
import { llamero, until } from '../support/processes.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

suite('npm run cluster', () => {
  let temporary: string
  let cluster: ChildProcessByStdio<null, Readable, null>
  let out = ''
  const leaders = () => [...out.matchAll(/^leader: (\w), pid (\d+)$/gm)]
  const pids = () => [...new Set([...out.matchAll(/pid (\d+)$/gm)].map(([, pid]) => Number(pid)))]

  before(async () => {
    temporary = await mkdtemp(join(tmpdir(), 'llamero-local-cluster-'))
    // A process group of its own, as in a terminal: Ctrl-C there reaches npm and everything below it.
    cluster = spawn('npm', ['run', '--silent', 'cluster'], {
      cwd: root,
      env: { ...process.env, TMPDIR: temporary },
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    cluster.stdout.on('data', (chunk) => (out += chunk))
    await until(() => out.includes('Ctrl-C'), 'it says what to try', 60_000)
  })
  after(async () => {
    for (const pid of pids().filter(isAlive)) process.kill(pid, 'SIGKILL')
    if (cluster.exitCode === null && cluster.signalCode === null) {
      process.kill(-(cluster.pid ?? 0), 'SIGKILL')
      await once(cluster, 'exit')
    }
    await rm(temporary, { recursive: true, force: true })
  })

  test('says where an etcd, three instances and three nodes are, and all of them work', async () => {
    assert.match(out, /^etcd +http:\/\/127\.0\.0\.1:\d+ +pid \d+$/m)
    const instances = [...out.matchAll(/^instance \w +(\S+) +admin \S+ +state \S+ +pid \d+$/gm)]
    assert.equal(instances.length, 3)
    assert.equal([...out.matchAll(/^node n\d +http\S+ +pid \d+$/gm)].length, 3)
    assert.equal(pids().filter(isAlive).length, 7)
    for (const [, url = ''] of instances)
      await until(async () => (await askOnce(url, 'llama3.2:3b')) === null, `${url} answers`, 10_000)
  })

  test('says how to point the command line at it, so that changes are allowed, and etcdctl', async () => {
    const [, env = ''] = /^ +export (LLAMERO_ADMIN_URL=\S+ LLAMERO_STATE=\S+)/m.exec(out) ?? []
    const settings = Object.fromEntries(env.split(' ').map((each) => each.split('=')))
    const cordoned = await llamero(['node', 'cordon', 'n3'], settings)
    assert.deepEqual([cordoned.code, cordoned.stderr], [0, 'n3: cordoned\n'])
    assert.match(out, /^ +etcdctl --endpoints http:\/\/127\.0\.0\.1:\d+ get --prefix \/llamero\/default\/$/m)
  })

  test('names the leader and how to kill it, and then the next leader', async () => {
    const [, name, pid = ''] = leaders()[0]!
    assert.match(out, new RegExp(`^ +kill -9 ${pid} +# the leader`, 'm'))
    process.kill(Number(pid), 'SIGKILL')
    const tookMs = await until(() => leaders().length === 2, 'another one leads', 20_000)
    assert.ok(tookMs <= 11_000, `${tookMs} ms`)
    assert.notEqual(leaders()[1]?.[1], name)
    await until(() => /^[abc]: .* warn /m.test(out), 'an instance warns', 10_000)
  })

  test('Ctrl-C leaves no process and no file behind', async () => {
    process.kill(-(cluster.pid ?? 0), 'SIGINT')
    if (cluster.exitCode === null && cluster.signalCode === null) await once(cluster, 'exit')
    await until(() => !pids().some(isAlive), 'every process has ended', 10_000)
    await until(async () => !(await leftovers(temporary)), 'every file is gone', 5000)
  })
})

/** What tells a file of ours: Node and npm keep caches there, too. */
async function leftovers(folder: string): Promise<boolean> {
  return (await readdir(folder)).some((name) => name.startsWith('llamero'))
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
