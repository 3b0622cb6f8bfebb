import { setTimeout as sleep } from 'node:timers/promises'
import { chat } from './chat.ts'
import { Connection } from './connection.ts'
import { askMany, openIdleStreams, streamMany } from './load.ts'
import { cpuNs, residentKiB } from './process-cost.ts'
import type { Program } from './program.ts'
import { percentile } from './statistics.ts'

const callers = 32
/** A second: well within what every contestant can do. */
const requestRate = 2000
const streams = 20
/** Slow enough that the chunks of a stream do not run into each other on a busy machine. */
const chunkMs = 4
/** What is still to be done after the last byte (log line, metrics, closing) belongs to the requests. */
const afterworkMs = 100
/** Until the garbage collector has seen what opening streams left behind. */
const settleMs = 1500

/** No connection may carry more than a thousand requests. */
const warmUpAtOnce = 20_000
/** One warm-up request in so many is streamed. */
const streamedEach = 10
const shortStream = { num_predict: 1, chunk_ms: 1 }

/** Small requests and a few short streams, as fast as they go, until V8's compiler is done with the code they take. */
export async function warmUp({ port }: Program, total: number): Promise<void> {
  const fast = { connections: callers, rate: 2 * requestRate }
  for (let left = total; left > 0; left -= warmUpAtOnce)
    await askMany(port, { ...fast, total: Math.min(left, warmUpAtOnce) })
  await askMany(port, { ...fast, total: total / streamedEach, options: shortStream })
}

/** CPU per small request over kept-alive connections, in microseconds. */
export async function requestCpuUs(program: Program, total: number): Promise<number> {
  const used = await cpuNsOf(program, () =>
    askMany(program.port, { connections: callers, total, rate: requestRate }),
  )
  return used / 1000 / total
}

/** CPU per streamed chunk, in microseconds, and the share of the chunks that came on their own. */
export async function chunkCpuUs(program: Program, chunks: number): Promise<{ us: number; apart: number }> {
  const total = streams * (chunks + 1)
  let reads = 0
  const used = await cpuNsOf(program, async () => {
    reads = await streamMany(program.port, { connections: streams, num_predict: chunks, chunk_ms: chunkMs })
  })
  return { us: used / 1000 / total, apart: reads / total }
}

/**
 * Time to first token of each port, in milliseconds, by `count` requests one after the other. The ports take turns
 * request by request, so that each meets the same noise.
 */
export async function firstTokenMs(
  ports: readonly number[],
  count: number,
): Promise<{ p50: number; p99: number }[]> {
  const request = chat(shortStream)
  const connections = await Promise.all(ports.map((port) => Connection.open(port)))
  const times: number[][] = ports.map(() => [])
  for (let nth = 0; nth < count; nth++) {
    for (const [index, connection] of connections.entries()) {
      const { firstByteMs } = await connection.send(request)
      times[index]?.push(firstByteMs)
    }
  }
  for (const connection of connections) connection.close()
  return times.map((each) => ({ p50: percentile(each, 0.5), p99: percentile(each, 0.99) }))
}

/**
 * Memory per idle open stream, in KiB, of a process that has done nothing yet: later its heap has room that new streams
 * would fill unseen. What the first requests take once, for code and the heap's nursery, is shared out among the
 * streams.
 */
export async function idleStreamKiB(program: Program, count: number): Promise<number> {
  const before = residentKiB(program.pid)
  const open = await openIdleStreams(program.port, count)
  await sleep(settleMs)
  const after = residentKiB(program.pid)
  for (const stream of open) stream.close()
  return (after - before) / count
}

async function cpuNsOf(program: Program, work: () => Promise<void>): Promise<number> {
  const before = cpuNs(program.pid)
  await work()
  await sleep(afterworkMs)
  return cpuNs(program.pid) - before
}
