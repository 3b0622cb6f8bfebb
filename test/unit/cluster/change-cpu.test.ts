import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChangeBatcher } from '../../../lib/cluster/config/change-batcher.ts'
import { SnapshotBuilder } from '../../../lib/cluster/config/snapshot-builder.ts'
import { RealClock } from '../../../lib/shared/clock.ts'
import type { Entry } from '../../../lib/store/store.ts'
import { builderOptions, keys } from '../../support/cluster.ts'
import { CpuReport, longestTurnMs } from '../../support/cpu.ts'
import { aDocuments, aSnapshot } from '../../support/fleet.ts'
import { startGateway } from '../../support/gateway.ts'
import { heavyDocuments } from '../../support/heavy-documents.ts'

const nodes = 1000
const numbers = Array.from({ length: nodes }, (_, nth) => nth)
const name = (nth: number) => `node-${nth}`
/** Each model is on an eighth of the nodes. */
const models = (nth: number, extra: string) => [
  ...Array.from({ length: 24 }, (_, at) => `model-${(nth * 7 + at) % 200}:latest`),
  extra,
]

test('no change of a fleet of 1,000 nodes takes a turn of the event loop longer than 20 ms (343)', async (test) => {
  await using gateway = await startGateway(aSnapshot())
  const shared = builderOptions(new RealClock(), gateway.current)
  const entries = new Map<string, Entry>()
  let revision = 0n
  let awaited = Promise.withResolvers<void>()
  const pending = new Set<string>()
  const batcher = new ChangeBatcher({
    ...shared,
    informer: {
      entries,
      get revision() {
        return revision
      },
    },
    builder: new SnapshotBuilder(shared),
    followed: (changed) => {
      for (const key of changed) pending.delete(key)
      if (pending.size === 0) awaited.resolve()
    },
  })
  const put = (key: string, value: string) => {
    const created = entries.get(key)?.created ?? ++revision
    entries.set(key, { key, value, created, modified: ++revision, lease: null })
    return key
  }
  const report = new CpuReport()
  let round = 0
  const measure = async (title: string, texts: (round: number) => readonly (readonly [string, string])[]) => {
    const longest: number[] = []
    for (let nth = 0; nth < 5 && (longest.at(-1) ?? 20) > 10; nth++) {
      const changed = new Set(texts(++round).map(([key, value]) => put(key, value)))
      awaited = Promise.withResolvers()
      for (const key of changed) pending.add(key)
      const ms = await longestTurnMs(
        () => {
          batcher.add(changed)
          return awaited.promise
        },
        { rounds: 1 },
      )
      longest.push(ms)
    }
    report.add(title, Math.min(...longest))
  }

  const documents = (nth: number) =>
    numbers.map(
      (at) => [keys.node(name(at)), `url: http://10.0.0.1:${at + 1}\nweight: ${1 + (nth % 5)}\n`] as const,
    )
  const statuses = (nth: number) => {
    const made = aDocuments({
      nodes: numbers.map((at) => ({ name: name(at), models: models(at, `m${nth}:latest`) })),
    })
    return Array.from(
      made.statuses,
      ([node, status]) => [keys.nodeState(node), JSON.stringify(status)] as const,
    )
  }
  await measure('every document and status', (nth) => [...documents(nth), ...statuses(nth)])
  await measure('every status', statuses)
  await measure('every document', documents)
  await measure('one document', (nth) => documents(nth).slice(0, 1))
  await measure('the config', (nth) => [[keys.config, `routing: {default_slots: ${1 + (nth % 5)}}`]])
  const heavy = heavyDocuments(3 * 1024).get('empty lines') ?? ''
  await measure('200 heavy documents', (nth) =>
    numbers.slice(0, 200).map((at) => [keys.route(`r-${at}`), `${heavy}\n# ${nth}`]),
  )
  batcher.stop()
  for (const line of report.lines()) test.diagnostic(line)
  assert(report.longest <= 20, report.lines().join('\n'))
})
