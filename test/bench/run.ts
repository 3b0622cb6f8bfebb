import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { starters, startNode } from './contestants.ts'
import { corePassUs } from './core-passes.ts'
import { largeFleet } from './large-fleet.ts'
import { chunkCpuUs, firstTokenMs, idleStreamKiB, requestCpuUs, warmUp } from './measures.ts'
import { passUs } from './passes.ts'
import type { Program } from './program.ts'
import type { Size } from './size.ts'
import { median } from './statistics.ts'

const measures = [
  'requestUs',
  /** Of what http-proxy took in the same turn: what comes and goes with the machine falls on both. */
  'requestRatio',
  'chunkUs',
  /** The share of the chunks that reached the caller one by one: below 1 the CPU per chunk is flattered. */
  'chunksApart',
  'firstTokenP50Ms',
  'firstTokenP99Ms',
  'idleStreamKiB',
  /** Of the scheduler alone, in this process: its core, and all of it. */
  'corePass50Us',
  'corePass1000Us',
  'pass50Us',
  'pass1000Us',
  /** Of the control side and the listings for 1000 nodes of 50 models, in this process. */
  'rebuildMs',
  'listBlockedMs',
  'blockedMs',
  'burstBlockedMs',
  'tagsMs',
] as const
type Measure = (typeof measures)[number]

/** A figure of each contestant, by its name. */
export type Figures = Readonly<Record<string, number>>
export type Results = Readonly<Record<Measure, Figures>>

/** Of small requests, a round. Many and short, for noise comes and goes within a second. */
const requestTurns = 4

type Say = (line: string) => void

/** One run: starts everyone, lets them take turns, ends everyone. `say` is told what is going on. */
export async function run(size: Size, say: Say): Promise<Results> {
  const dir = mkdtempSync(join(tmpdir(), 'llamero-bench-'))
  process.once('exit', () => rmSync(dir, { recursive: true, force: true }))
  const programs: Program[] = []
  try {
    const node = await startNode(dir)
    programs.push(node)
    await node.answers()
    for (const [name, start] of Object.entries(starters)) {
      const program = await start({ dir, nodePort: node.port })
      if (!program) say(`${name} is not installed: left out`)
      else programs.push(program)
      await program?.answers()
    }
    return await measureAll(node, programs.slice(1), size, say)
  } finally {
    await Promise.all(programs.map((program) => program.stop()))
  }
}

/** Memory comes first, while the processes are fresh; the warm-up after it is for the rounds. */
async function measureAll(
  node: Program,
  contestants: readonly Program[],
  size: Size,
  say: Say,
): Promise<Results> {
  const tally = new Tally()
  for (const program of contestants) {
    say(`memory of idle streams: ${program.name}`)
    tally.add('idleStreamKiB', program.name, await idleStreamKiB(program, size.idleStreams))
  }
  for (const program of contestants) {
    say(`warming up: ${program.name}`)
    await warmUp(program, size.warmUp)
    await chunkCpuUs(program, size.chunks)
  }
  for (let round = 1; round <= size.rounds; round++) {
    say(`round ${round} of ${size.rounds}`)
    await takeTurns(node, contestants, size, tally)
  }
  say('1000 nodes of 50 models each')
  for (const [measure, ms] of Object.entries(await largeFleet())) tally.add(measure as Measure, 'llamero', ms)
  return tally.medians()
}

async function takeTurns(node: Program, contestants: readonly Program[], size: Size, tally: Tally) {
  for (let turn = 0; turn < requestTurns; turn++) {
    const took = new Map<string, number>()
    for (const program of contestants) took.set(program.name, await requestCpuUs(program, size.requests))
    for (const [name, us] of took) {
      tally.add('requestUs', name, us)
      tally.add('requestRatio', name, us / (took.get('http-proxy') ?? Number.NaN))
    }
  }
  for (const program of contestants) {
    const { us, apart } = await chunkCpuUs(program, size.chunks)
    tally.add('chunkUs', program.name, us)
    tally.add('chunksApart', program.name, apart)
  }
  const names = ['direct', ...contestants.map(({ name }) => name)]
  const ports = [node, ...contestants].map(({ port }) => port)
  const times = await firstTokenMs(ports, size.firstTokens)
  for (const [index, { p50, p99 }] of times.entries()) {
    tally.add('firstTokenP50Ms', names[index] ?? '', p50)
    tally.add('firstTokenP99Ms', names[index] ?? '', p99)
  }
  const [few, many] = [
    { ...size, nodes: 50, queued: 100 },
    { ...size, nodes: 1000, queued: 1000 },
  ]
  tally.add('corePass50Us', 'llamero', corePassUs(few))
  tally.add('corePass1000Us', 'llamero', corePassUs(many))
  tally.add('pass50Us', 'llamero', await passUs(few))
  tally.add('pass1000Us', 'llamero', await passUs(many))
}

/** Every value measured, by measure and contestant. */
class Tally {
  readonly #values = new Map<Measure, Map<string, number[]>>(measures.map((measure) => [measure, new Map()]))

  add(measure: Measure, name: string, value: number): void {
    const ofMeasure = this.#values.get(measure)
    ofMeasure?.set(name, [...(ofMeasure.get(name) ?? []), value])
  }

  medians(): Results {
    const figures = [...this.#values].map(([measure, byName]): [Measure, Figures] => [
      measure,
      Object.fromEntries([...byName].map(([name, values]) => [name, median(values)])),
    ])
    return Object.fromEntries(figures) as Results
  }
}
