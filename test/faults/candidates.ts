import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import type { Random } from '../../lib/shared/random.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { KeyLayout } from '../../lib/store/key-layout.ts'
import type { Change } from '../../lib/store/store.ts'
import { type Etcd, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
import { patiently } from '../support/patiently.ts'
import { until } from '../support/processes.ts'

const script = fileURLToPath(new URL('./candidate.ts', import.meta.url))
const keys = new KeyLayout('election')

/** `id` was the leader of the term `fence` at `at`, in nanoseconds of the machine's monotonic clock. */
export interface Sample {
  readonly at: string
  readonly id: string
  readonly fence: string
}

/** A guarded write of the term `wrote` ended: at `revision`, or refused, or without an answer (null). */
export interface Settled {
  readonly at: string
  readonly id: string
  readonly wrote: string
  readonly revision: string | null
  /** The term that its process held to be its own when it learned of it. */
  readonly fenceAfter: string | null
}

/** The time for which a process held itself to be the leader of one term. */
export interface Reign {
  readonly id: string
  readonly fence: bigint
  readonly from: bigint
  readonly to: bigint
}

/** A process that campaigns, over a proxy of its own, and whatever is done to it. */
export class Candidate {
  readonly id: string
  readonly proxy: FaultProxy
  readonly #endpoint: string
  readonly #file: string
  #child: ChildProcess | null = null

  constructor(id: string, proxy: FaultProxy, endpoint: string, file: string) {
    this.id = id
    this.proxy = proxy
    this.#endpoint = endpoint
    this.#file = file
  }

  /** Does nothing while it runs. */
  start(): void {
    if (this.#child) return
    const child = spawn(process.execPath, [script, this.id, this.#endpoint, this.#file], { stdio: 'inherit' })
    const endWithUs = () => child.kill('SIGKILL')
    process.once('exit', endWithUs)
    child.once('exit', () => process.off('exit', endWithUs))
    this.#child = child
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = null
    if (!child) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP')
  }

  wake(): void {
    this.#child?.kill('SIGCONT')
  }

  async journal(): Promise<(Sample | Settled)[]> {
    const text = await readFile(this.#file, 'utf8').catch(() => '')
    const whole = text.slice(0, text.lastIndexOf('\n') + 1).split('\n')
    return whole.filter((line) => line !== '').map((line) => JSON.parse(line))
  }
}

/** Three candidates on one etcd. */
export class Candidates {
  readonly all: readonly Candidate[]
  readonly #dir: string
  readonly #etcd: Etcd
  readonly #store: EtcdStore

  private constructor(dir: string, etcd: Etcd, all: readonly Candidate[]) {
    this.#dir = dir
    this.#etcd = etcd
    this.all = all
    this.#store = new EtcdStore({ endpoints: [etcd.endpoint], clock: new RealClock(), log: silentLog })
  }

  static async start(): Promise<Candidates> {
    const dir = await mkdtemp(join(tmpdir(), 'llamero-candidates-'))
    const etcd = await startEtcd()
    const all = await Promise.all(
      ['a', 'b', 'c'].map(async (id) => {
        const proxy = new FaultProxy(etcd.endpoint)
        return new Candidate(id, proxy, await proxy.open(), join(dir, id))
      }),
    )
    for (const candidate of all) candidate.start()
    return new Candidates(dir, etcd, all)
  }

  async stop(): Promise<void> {
    for (const candidate of this.all) {
      await candidate.kill()
      await candidate.proxy.close()
    }
    await this.#store.close()
    await this.#etcd.stop()
    await rm(this.#dir, { recursive: true })
  }

  /** Waits for a leader key that is not of the term `not`, and returns whose it is, and its fence. */
  async leader(not = 0n): Promise<{ candidate: Candidate; fence: bigint }> {
    const current = async () => {
      const entry = await patiently(() => this.#store.get(keys.leader))
      const candidate = this.all.find(({ id }) => id === entry?.value)
      return entry && candidate && entry.created !== not ? { candidate, fence: entry.created } : null
    }
    await until(async () => (await current()) !== null, 'a leader', 15_000)
    return (await current()) ?? this.leader(not)
  }

  /** Every term that any process held to be its own, by the time of its first moment. */
  async reigns(): Promise<Reign[]> {
    const reigns = new Map<string, Reign>()
    for (const line of (await this.#journals()).filter((each) => 'fence' in each)) {
      const at = BigInt(line.at)
      const { from = at } = reigns.get(line.fence) ?? {}
      assert.equal(reigns.get(line.fence)?.id ?? line.id, line.id, 'a term belongs to one process')
      reigns.set(line.fence, { id: line.id, fence: BigInt(line.fence), from, to: at })
    }
    return [...reigns.values()].sort((a, b) => (a.from < b.from ? -1 : 1))
  }

  /** How every write ended, as far as its process lived to tell. */
  async settled(): Promise<Settled[]> {
    return (await this.#journals()).filter((line) => 'wrote' in line)
  }

  async #journals(): Promise<(Sample | Settled)[]> {
    return (await Promise.all(this.all.map((candidate) => candidate.journal()))).flat()
  }

  /** Everything that ever happened in etcd to the leader key and under `state/`, in its order. */
  async history(): Promise<Change[]> {
    const { revision } = await patiently(() => this.#store.list(keys.root))
    const changes: Change[] = []
    let seen = 0n
    const watch = await patiently(() =>
      this.#store.watch(keys.root, 1n, {
        changed: (more, at) => {
          changes.push(...more)
          seen = at
        },
        broken: (reason) => assert.fail(`the history is ${reason}`),
      }),
    )
    await until(() => seen >= revision, 'the whole history', 10_000)
    watch.close()
    return changes
  }

  /** Fails unless at any time one process at most led, and only the newest term ever wrote. */
  async assertOneLeader(): Promise<{ reigns: number; writes: number }> {
    const reigns = await this.reigns()
    for (const [index, { id, fence, from }] of reigns.entries()) {
      const before = reigns[index - 1]
      if (!before) continue
      assert.ok(before.to < from, `${before.id} still led (${before.fence}) when ${id} began (${fence})`)
      assert.ok(before.fence < fence, 'fences rise')
    }
    return { reigns: reigns.length, writes: assertOnlyTheNewestWrites(await this.history()) }
  }
}

/** Returns how many writes there were. */
function assertOnlyTheNewestWrites(history: readonly Change[]): number {
  let newest = 0n
  let writes = 0
  for (const change of history) {
    if (change.type === 'delete') continue
    const { key, created, value } = change.entry
    if (key === keys.leader) {
      assert.ok(created > newest, 'a term is put once')
      newest = created
    } else {
      assert.equal(BigInt(JSON.parse(value).fence), newest, `a write at ${change.entry.modified}`)
      writes++
    }
  }
  return writes
}

/** Milliseconds: two TTLs, after which a leader without contact has long been replaced. */
const longMs = 6000

/** One fault that passes by itself; resolves when it is over. The leader is hit more often than the others. */
export async function trouble(candidates: Candidates, random: Random): Promise<void> {
  const draw = (limit: number) => Math.floor(random() * limit)
  const victim =
    random() < 0.6 ? (await candidates.leader()).candidate : candidates.all[draw(candidates.all.length)]
  if (!victim) return
  const ms = 100 + draw(longMs)
  const faults = [
    () => killed(victim, ms / 4),
    () => frozen(victim, ms),
    () => partitioned(victim, ms, () => victim.proxy.cut()),
    () => partitioned(victim, ms, () => victim.proxy.set({ mute: 'both' })),
    () => partitioned(victim, ms, () => victim.proxy.set({ mute: 'down' })),
    () => partitioned(victim, ms, () => victim.proxy.set({ mute: 'up' })),
    () => partitioned(victim, ms, () => victim.proxy.forget()),
    () => partitioned(victim, ms, () => victim.proxy.set({ delayMs: draw(800) })),
  ]
  // As many kills and freezes as partitions.
  await faults[random() < 0.5 ? draw(2) : 2 + draw(faults.length - 2)]?.()
}

async function killed(victim: Candidate, ms: number): Promise<void> {
  await victim.kill()
  await sleep(ms)
  victim.start()
}

async function frozen(victim: Candidate, ms: number): Promise<void> {
  victim.freeze()
  await sleep(ms)
  victim.wake()
}

async function partitioned(victim: Candidate, ms: number, part: () => void): Promise<void> {
  part()
  await sleep(ms)
  victim.proxy.heal()
}
