import { setTimeout as sleep } from 'node:timers/promises'
import { type ChatOptions, chat } from './chat.ts'
import { Connection } from './connection.ts'

interface Requests {
  /** How the answers come; small ones in one piece when absent. */
  readonly options?: ChatOptions
  readonly connections: number
  readonly total: number
  /** Requests a second, over all connections. */
  readonly rate: number
}

/**
 * Small requests over kept-alive connections, at a steady rate: were each sent as soon as the last is answered, a fast
 * contestant would keep its neighbours awake and save the cost of waking them, which a slow one pays.
 */
export async function askMany(port: number, { options, connections, total, rate }: Requests): Promise<void> {
  const request = chat(options)
  const everyMs = 1000 / rate
  const since = performance.now()
  let sent = 0
  await withConnections(port, connections, async (connection) => {
    while (sent < total) {
      const aheadMs = since + sent++ * everyMs - performance.now()
      if (aheadMs >= 1) await sleep(aheadMs)
      await connection.send(request)
    }
  })
}

export interface Streams extends ChatOptions {
  readonly connections: number
}

/** One stream on each connection, at once. Resolves to the reads it took to get all of them. */
export async function streamMany(port: number, { connections, ...options }: Streams): Promise<number> {
  const request = chat(options)
  let reads = 0
  await withConnections(port, connections, async (connection) => {
    const receipt = await connection.send(request)
    reads += receipt.reads
  })
  return reads
}

/** Streams that have sent their first chunk and then keep silent. */
export async function openIdleStreams(port: number, count: number): Promise<Connection[]> {
  const request = chat({ num_predict: 2, chunk_ms: 3_600_000 })
  const opened: Connection[] = []
  // Not all at once: a backlog of connections is not what is measured.
  for (let at = 0; at < count; at += 50) {
    const some = await openConnections(port, Math.min(50, count - at))
    opened.push(...some)
    await Promise.all(some.map((connection) => connection.begin(request)))
  }
  return opened
}

async function withConnections(
  port: number,
  count: number,
  use: (connection: Connection) => Promise<void>,
): Promise<void> {
  const connections = await openConnections(port, count)
  try {
    await Promise.all(connections.map(use))
  } finally {
    for (const connection of connections) connection.close()
  }
}

function openConnections(port: number, count: number): Promise<Connection[]> {
  return Promise.all(Array.from({ length: count }, () => Connection.open(port)))
}
