import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** How an answer came. */
export interface Receipt {
  /** Milliseconds from the request's write to the first byte of the answer's body. */
  readonly firstByteMs: number
  /** Reads from the socket that brought bytes of the body. */
  readonly reads: number
}

const headEnd = '\r\n\r\n'
const lastChunk = '\r\n0\r\n\r\n'
/** A contestant that says nothing for so long has broken the bench. */
const patienceMs = 20_000

/**
 * One kept-alive connection of a caller, which reads only as much HTTP as it needs to see where an answer ends: the
 * generator shares the machine with what it measures.
 */
export class Connection {
  readonly #socket: Socket
  #sentAt = 0
  #firstByteMs = 0
  #reads = 0
  /** Bytes of the head so far, or the last few of a body in chunks. */
  #text = ''
  /** Of the answer under way: null before its head is whole, else bytes still to come; Infinity for chunks. */
  #left: number | null = null
  #began: () => void = () => {}
  #ended: (receipt: Receipt) => void = () => {}
  #failed: (error: Error) => void = () => {}

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (bytes) => this.#read(bytes))
    socket.on('error', (error) => this.#failed(error))
    socket.setTimeout(patienceMs, () => socket.destroy())
    socket.on('close', () => this.#failed(new Error('the connection closed within an answer')))
  }

  static async open(port: number): Promise<Connection> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    await once(socket, 'connect')
    return new Connection(socket)
  }

  /** Sends a request. Resolves when its answer is whole; rejects when it is not a 200 or breaks off. */
  send(request: Buffer): Promise<Receipt> {
    if (this.#socket.destroyed)
      return Promise.reject(new Error('the connection was closed between two answers'))
    const { promise, resolve, reject } = Promise.withResolvers<Receipt>()
    this.#left = null
    this.#text = ''
    this.#reads = 0
    this.#ended = resolve
    this.#failed = reject
    this.#sentAt = performance.now()
    this.#socket.write(request)
    return promise
  }

  /** Sends a request. Resolves with the first byte of its answer's body, and leaves the rest unread of. */
  begin(request: Buffer): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#began = resolve
    this.send(request).catch(reject)
    return promise
  }

  close(): void {
    this.#failed = () => {}
    this.#socket.destroy()
  }

  #read(bytes: Buffer): void {
    const body = this.#left === null ? this.#readHead(bytes) : bytes
    if (body.length === 0 || this.#left === null) return
    if (this.#reads++ === 0) {
      this.#firstByteMs = performance.now() - this.#sentAt
      this.#began()
    }
    if (this.#isEnd(body)) this.#ended({ firstByteMs: this.#firstByteMs, reads: this.#reads })
  }

  /** Returns what follows the head. */
  #readHead(bytes: Buffer): Buffer {
    this.#text += bytes.toString('latin1')
    const end = this.#text.indexOf(headEnd)
    if (end < 0) return bytes.subarray(bytes.length)
    const head = this.#text.slice(0, end)
    const bodyBytes = this.#text.length - end - headEnd.length
    this.#text = ''
    if (!head.startsWith('HTTP/1.1 200')) this.#failed(new Error(`the answer is ${head.split('\r\n', 1)[0]}`))
    this.#left = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? Number.POSITIVE_INFINITY)
    return bytes.subarray(bytes.length - bodyBytes)
  }

  #isEnd(body: Buffer): boolean {
    if (this.#left === null) return false
    this.#left -= body.length
    if (Number.isFinite(this.#left)) return this.#left === 0
    this.#text = (this.#text + body.toString('latin1', Math.max(0, body.length - lastChunk.length))).slice(
      -lastChunk.length,
    )
    return this.#text === lastChunk
  }
}
