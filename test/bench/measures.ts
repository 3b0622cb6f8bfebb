import { setTimeout as sleep } from 'node:timers/promises'
import { chat } from './chat.ts'
import { Connection } from './connection.ts'
import { askMany, openIdleStreams, streamMany } from './load.ts'
import { cpuNs, residentKiB } from './process-cost.ts'
import type { Program } from './program.ts'
import type { Size } from './size.ts'
import { percentile } from './statistics.ts'

const connections = 32
const streams = 20
/** Slow enough that the chunks of a stream do not run into each other on a busy machine. */
const chunkMs = 4
/** What is still to be done after the last byte (log line, metrics, closing) belongs to the requests. */
const settleMs = 100

/** CPU per small request, in microseconds. */
export async function requestCpuUs(program: Program, { requests }: Size): Promise<number> {
  const used = await cpuOf(program, () => askMany(program.port, { connections, total: requests }))
  return used / 1000 / requests
}

/** CPU per streamed chunk, in microseconds, and the share of the chunks that came on their own. */
export async function chunkCpuUs(program: Program, { chunks }: Size): Promise<{ us: number; apart: number }> {
  const total = streams * (chunks + 1)
  let reads = 0
  const used = await cpuOf(program, async () => {
    reads = await streamMany(program.port, {
      connections: streams,
      num_predict: chunks,
      chunk_ms: chunkMs,
    })
  })
  return { us: used / 1000 / total, apart: reads / total }
}

/**
 * Time to first token in milliseconds, by port. The ports take turns request by request, so that each meets the same
 * noise.
 */
export async function firstTokenMs(
  ports: readonly number[],
  { firstTokens }: Size,
): Promise<{ p50: number; p99: number }[]> {
  const request = chat({ num_predict: 2, chunk_ms: 1 })
  const callers = await Promise.all(ports.map((port) => Connection.open(port)))
  const times: number[][] = ports.map(() => [])
  for (let nth = 0; nth < firstTokens; nth++) {
    for (const [index, caller] of callers.entries())
      times[index]?.push((await caller.send(request)).firstByteMs)
  }
  for (const caller of callers) caller.close()
  return times.map((each) => ({ p50: percentile(each, 0.5), p99: percentile(each, 0.99) }))
}

/**
 * Memory per idle open stream, in KiB. As many streams are open before the first look: what a process takes once, for
 * its code and the growth of its heap's nursery, is not the stream's.
 */
export async function idleStreamKiB(program: Program, { idleStreams }: Size): Promise<number> {
  const open: Connection[] = []
  const levels: number[] = []
  for (let look = 0; look < 2; look++) {
    open.push(...(await openIdleStreams(program.port, idleStreams)))
    await sleep(1500)
    levels.push(residentKiB(program.pid))
  }
  for (const stream of open) stream.close()
  const [before = 0, after = 0] = levels
  return (after - before) / idleStreams
}

async function cpuOf(program: Program, work: () => Promise<void>): Promise<number> {
  const before = cpuNs(program.pid)
  await work()
  await sleep(settleMs)
  return cpuNs(program.pid) - before
}
