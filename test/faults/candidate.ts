import { openSync, writeSync } from 'node:fs'
import { Election } from '../../lib/cluster/election/election.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { Informer } from '../../lib/store/informer.ts'
import { KeyLayout } from '../../lib/store/key-layout.ts'
import type { Sample, Settled } from './candidates.ts'

/** Milliseconds between two looks at `isLeader()`, and between two writes of a leader. */
const sampleMs = 4
const writeMs = 25

/** A process that only campaigns, and writes `state/` under guard for as long as it leads; run by `Candidates`. */
const [id = '', endpoint = '', file = ''] = process.argv.slice(2)
const keys = new KeyLayout('election')
const clock = new RealClock()
const store = new EtcdStore({ endpoints: [endpoint], clock, log: silentLog })
const shared = { store, clock, random: Math.random, log: silentLog }
const journal = openSync(file, 'a')

/** In the kernel at once: a killed process has told all it knew. */
function record(line: Sample | Settled): void {
  writeSync(journal, `${JSON.stringify(line)}\n`)
}

const election = new Election({
  ...shared,
  key: keys.leader,
  id,
  ttlMs: 3000,
  mayLead: () => true,
  isRegistered: () => true,
  changed: () => {},
})
const informer = new Informer({
  ...shared,
  prefix: keys.root,
  changed: (changed) => {
    if (changed.has(keys.leader))
      election.observe(informer.entries.get(keys.leader) ?? null, informer.revision)
  },
})

function sample(): void {
  // Before the look: frozen in between, we would claim the time after it.
  const at = process.hrtime.bigint()
  const { fence } = election
  if (fence !== null) record({ at: String(at), id, fence: String(fence) })
}

let writes = 0

async function write(): Promise<void> {
  const { fence } = election
  if (fence === null) return
  const value = JSON.stringify({ id, fence: String(fence), n: ++writes })
  const revision = await election.guarded([{ type: 'put', key: keys.heartbeat, value }]).catch(() => null)
  const at = String(process.hrtime.bigint())
  const fenceAfter = election.fence === null ? null : String(election.fence)
  record({ at, id, wrote: String(fence), revision: revision === null ? null : String(revision), fenceAfter })
}

setInterval(sample, sampleMs)
// The next one does not wait for the last: a write that hangs is under way when its leader is frozen.
setInterval(() => void write(), writeMs)
informer.start()
election.start()
