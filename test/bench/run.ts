import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { starters, startNode } from './contestants.ts'
import { decisionUs } from './decisions.ts'
import { chunkCpuUs, firstTokenMs, idleStreamKiB, requestCpuUs } from './measures.ts'
import type { Program } from './program.ts'
import type { Size } from './size.ts'
import { median } from './statistics.ts'

/** A figure of each contestant, by its name. */
export type Figures = Readonly<Record<string, number>>

export interface Results {
  readonly requestUs: Figures
  readonly chunkUs: Figures
  /** The share of the chunks that reached the caller one by one: below 1 the CPU per chunk is flattered. */
  readonly chunksApart: Figures
  readonly firstTokenP50Ms: Figures
  readonly firstTokenP99Ms: Figures
  readonly idleStreamKiB: Figures
  /** Of the scheduler alone, in this process. */
  readonly decision50Us: number
  readonly decision1000Us: number
}

/** One run: starts everyone, lets them take turns, ends everyone. `say` is told what is going on. */
export async function run(size: Size, say: (line: string) => void): Promise<Results> {
  const dir = await mkdtemp(join(tmpdir(), 'llamero-bench-'))
  const programs: Program[] = []
  try {
    const node = await startNode(dir)
    programs.push(node)
    await node.ready()
    for (const [name, start] of Object.entries(starters)) {
      const program = await start({ dir, nodePort: node.port })
      if (!program) say(`${name} is not installed: left out`)
      else programs.push(program)
      await program?.ready()
    }
    const contestants = programs.slice(1)
    return { ...(await measureAll(node, contestants, size, say)), ...(await measureDecisions(size, say)) }
  } finally {
    await Promise.all(programs.map((program) => program.stop()))
    await rm(dir, { recursive: true, force: true })
  }
}

async function measureAll(
  node: Program,
  contestants: readonly Program[],
  size: Size,
  say: (line: string) => void,
): Promise<Omit<Results, 'decision50Us' | 'decision1000Us'>> {
  const table = {
    requestUs: new Tally(),
    chunkUs: new Tally(),
    chunksApart: new Tally(),
    firstTokenP50Ms: new Tally(),
    firstTokenP99Ms: new Tally(),
    idleStreamKiB: new Tally(),
  }
  for (const program of contestants) {
    say(`memory of idle streams: ${program.name}`)
    table.idleStreamKiB.add(program.name, await idleStreamKiB(program, size))
  }
  for (const program of contestants) {
    say(`warming up: ${program.name}`)
    await requestCpuUs(program, size)
    await chunkCpuUs(program, { ...size, chunks: size.chunks / 2 })
  }
  for (let round = 1; round <= size.rounds; round++) {
    say(`round ${round} of ${size.rounds}: requests`)
    for (const program of contestants) table.requestUs.add(program.name, await requestCpuUs(program, size))
    say(`round ${round} of ${size.rounds}: streams`)
    for (const program of contestants) {
      const { us, apart } = await chunkCpuUs(program, size)
      table.chunkUs.add(program.name, us)
      table.chunksApart.add(program.name, apart)
    }
    say(`round ${round} of ${size.rounds}: time to first token`)
    const all = [{ name: 'direct', port: node.port }, ...contestants]
    const times = await firstTokenMs(
      all.map(({ port }) => port),
      size,
    )
    for (const [index, { p50, p99 }] of times.entries()) {
      table.firstTokenP50Ms.add(all[index]?.name ?? '', p50)
      table.firstTokenP99Ms.add(all[index]?.name ?? '', p99)
    }
  }
  return {
    requestUs: table.requestUs.medians(),
    chunkUs: table.chunkUs.medians(),
    chunksApart: table.chunksApart.medians(),
    firstTokenP50Ms: table.firstTokenP50Ms.medians(),
    firstTokenP99Ms: table.firstTokenP99Ms.medians(),
    idleStreamKiB: table.idleStreamKiB.medians(),
  }
}

async function measureDecisions({ samples }: Size, say: (line: string) => void) {
  say('decisions of the scheduler')
  return {
    decision50Us: await decisionUs({ nodes: 50, queued: 100, samples }),
    decision1000Us: await decisionUs({ nodes: 1000, queued: 100, samples }),
  }
}

/** The values of one measure, by contestant. */
class Tally {
  readonly #values = new Map<string, number[]>()

  add(name: string, value: number): void {
    this.#values.set(name, [...(this.#values.get(name) ?? []), value])
  }

  medians(): Figures {
    return Object.fromEntries([...this.#values].map(([name, values]) => [name, median(values)]))
  }
}
