import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'

/** The way a connection's bytes go: `up` to the server, `down` to the client. */
type Direction = 'up' | 'down'

/** What becomes of a connection. Without any field it is a plain relay. */
export interface Conduct {
  /** `refuse` ends a new connection at once; `silent` accepts it and never answers, also after `set`. */
  readonly accept?: 'refuse' | 'silent'
  /** Milliseconds every chunk is late, in each direction. */
  readonly delayMs?: number
  /** The connection is cut within the chunk that holds this byte of what the server sends, counted from 0. */
  readonly cutAt?: number
  /** Bytes that go this way are held back; once it is healed they arrive, as after a partition that TCP survived. */
  readonly mute?: Direction | 'both'
}

/**
 * A TCP relay on loopback that fails on demand while the server behind it goes on.
 *
 * `set` is for the connections that exist and for all later ones; `script` says what becomes of the next ones, each on
 * its own and for as long as it lives. It draws no random numbers: a test that draws them from a seed can repeat a run.
 */
export class FaultProxy {
  readonly #server: Server
  readonly #connections = new Set<Connection>()
  readonly #target: URL
  #conduct: Conduct = {}
  #scripted: Conduct[] = []
  #accepted = 0

  /** @param target `http://host:port` or `https://host:port`. */
  constructor(target: string) {
    this.#target = new URL(target)
    this.#server = createServer((client) => this.#accept(client))
  }

  /** Returns the endpoint of the near end, with the target's scheme. */
  async open(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
    return `${this.#target.protocol}//127.0.0.1:${address.port}`
  }

  /** Connections accepted so far, refused ones too. */
  get accepted(): number {
    return this.#accepted
  }

  /** Bytes that the server has sent over the newest connection. */
  get sentDown(): number {
    return [...this.#connections].at(-1)?.sentDown ?? 0
  }

  set(conduct: Conduct): void {
    this.#conduct = conduct
    this.#scripted = []
    for (const connection of this.#connections) connection.conduct = conduct
  }

  /** The next connections fail like this, in this order; the ones after them as `set` said. */
  script(...conducts: readonly Conduct[]): void {
    this.#scripted.push(...conducts)
  }

  /** A plain relay again: what was held back arrives. */
  heal(): void {
    this.set({})
  }

  /** Ends every connection; new ones are refused until `heal`. */
  cut(): void {
    this.set({ accept: 'refuse' })
    this.drop()
  }

  /** Ends every connection; new ones fare as before. */
  drop(): void {
    for (const connection of this.#connections) connection.end()
  }

  /** Every connection is dead from now on without an end, for good, as behind a firewall that forgot it; new ones pass. */
  forget(): void {
    for (const connection of this.#connections) connection.forget()
  }

  async close(): Promise<void> {
    this.#server.close()
    this.drop()
    await once(this.#server, 'close')
  }

  #accept(client: Socket): void {
    this.#accepted += 1
    const conduct = this.#scripted.shift() ?? this.#conduct
    if (conduct.accept === 'refuse') {
      client.on('error', () => {})
      client.destroy()
      return
    }
    const server =
      conduct.accept === 'silent'
        ? null
        : connect({ host: this.#target.hostname, port: Number(this.#target.port) })
    const connection = new Connection(client, server, conduct, () => this.#connections.delete(connection))
    this.#connections.add(connection)
  }
}

/** A chunk on its way, null for the end of the stream. */
interface Parcel {
  readonly bytes: Buffer | null
  readonly dueAt: number
}

class Connection {
  readonly #client: Socket
  readonly #server: Socket | null
  readonly #ended: () => void
  readonly #held: Record<Direction, Parcel[]> = { up: [], down: [] }
  #conduct: Conduct
  #sentDown = 0
  #forgotten = false

  constructor(client: Socket, server: Socket | null, conduct: Conduct, ended: () => void) {
    this.#client = client
    this.#server = server
    this.#conduct = conduct
    this.#ended = ended
    for (const socket of [client, server]) {
      socket?.on('error', () => {})
      socket?.once('close', () => this.#closed())
    }
    client.on('data', (bytes) => this.#take('up', bytes))
    client.once('end', () => this.#take('up', null))
    server?.on('data', (bytes) => this.#take('down', bytes))
    server?.once('end', () => this.#take('down', null))
  }

  set conduct(conduct: Conduct) {
    this.#conduct = conduct
    this.#deliver('up')
    this.#deliver('down')
    if (this.#client.destroyed || this.#server?.destroyed) this.#closed()
  }

  get sentDown(): number {
    return this.#sentDown
  }

  forget(): void {
    this.#forgotten = true
  }

  end(): void {
    this.#client.destroy()
    this.#server?.destroy()
    this.#ended()
  }

  /** One side that is gone takes the other with it, unless nothing gets through. */
  #closed(): void {
    if (this.#forgotten || this.#conduct.mute) return
    this.end()
  }

  #take(direction: Direction, bytes: Buffer | null): void {
    this.#held[direction].push({ bytes, dueAt: performance.now() + (this.#conduct.delayMs ?? 0) })
    this.#deliver(direction)
  }

  /** Passes on what is due, in order. */
  #deliver(direction: Direction): void {
    const { mute } = this.#conduct
    const parcels = this.#held[direction]
    while (!this.#forgotten && mute !== direction && mute !== 'both') {
      const [first] = parcels
      if (!first) return
      const waitMs = first.dueAt - performance.now()
      if (waitMs > 0) {
        setTimeout(() => this.#deliver(direction), waitMs).unref()
        return
      }
      parcels.shift()
      this.#pass(direction, first.bytes)
    }
  }

  #pass(direction: Direction, bytes: Buffer | null): void {
    const target = direction === 'up' ? this.#server : this.#client
    if (bytes === null) {
      target?.end()
      return
    }
    const { cutAt = Number.POSITIVE_INFINITY } = this.#conduct
    if (direction === 'up' || this.#sentDown + bytes.length <= cutAt) {
      target?.write(bytes)
      if (direction === 'down') this.#sentDown += bytes.length
      return
    }
    this.#client.end(bytes.subarray(0, cutAt - this.#sentDown), () => this.end())
  }
}
