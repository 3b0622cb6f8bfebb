import { connect, createServer, type Socket } from 'node:net'

/**
 * Writes raw bytes to a port and resolves to what comes back: at the latest when the other side closes or is quiet for
 * half a second, and as soon as it matches `enough`.
 */
export function exchangeBytes(port: number, bytes: string | Buffer, enough?: RegExp): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const socket = connect(port, '127.0.0.1')
  let received = ''
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
    if (enough?.test(received)) socket.destroy()
  })
  socket.on('error', () => {})
  socket.on('close', () => resolve(received))
  socket.setTimeout(500, () => socket.destroy())
  socket.write(bytes)
  return promise
}

export interface RawNode {
  readonly port: number
  readonly url: string
  /** All bytes received, by connection. */
  readonly received: string[]
  /** When each connection closed, by `performance.now()`; in the order of `received`. */
  readonly closedAt: (number | undefined)[]
  /** Refuses new connections; those that are open stay, and are answered. */
  refuse(): void
  /** Takes new connections again, at the same port. */
  listen(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** A node made of bare bytes: `serve` is called for each chunk received, with the count of chunks on that connection. */
export async function startRawNode(
  serve: (socket: Socket, chunk: string, nth: number) => void,
): Promise<RawNode> {
  const received: string[] = []
  const closedAt: (number | undefined)[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    const index = received.push('') - 1
    let nth = 0
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => {
      closedAt[index] = performance.now()
      sockets.delete(socket)
    })
    socket.on('data', (chunk) => {
      received[index] += chunk.toString('latin1')
      serve(socket, chunk.toString('latin1'), nth++)
    })
  })
  const listen = (at: number) => new Promise<void>((resolve) => server.listen(at, '127.0.0.1', resolve))
  await listen(0)
  const { port } = server.address() as { port: number }
  return {
    refuse: () => void server.close(),
    listen: () => listen(port),
    port,
    url: `http://127.0.0.1:${port}`,
    received,
    closedAt,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** An HTTP answer in bytes. */
export function rawAnswer(
  body: string,
  { status = '200 OK', type = 'application/json', extra = '' } = {},
): string {
  return `HTTP/1.1 ${status}\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${extra}\r\n${body}`
}

/** Resolves when `condition` holds; rejects after two seconds, naming what was waited for. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string,
  withinMs = 2000,
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
