import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Api } from '../../fleet/request-spec.ts'
import { type ModelRename, renameModel } from '../body/rename-model.ts'
import type { Tokens } from '../http/exchange.ts'
import type { UpstreamOutcome } from './outcome.ts'

/** The head of a node's answer. */
export interface AnswerHead {
  readonly status: number
  readonly contentType: string
  readonly headers: IncomingHttpHeaders
}

/** Takes the body of a node's answer to where it belongs. */
export interface Delivery {
  /** A piece of the body. An outcome ends the attempt there and then. */
  take(chunk: Buffer): UpstreamOutcome | null
  /** The body ended as HTTP says it should. */
  finish(): UpstreamOutcome
  /** The attempt is over: what is held is given back. */
  close(): void
  /** The caller reads slower than the node writes. */
  readonly isFull: boolean
  /** Calls `resume` once, when the caller can take more. */
  onceWritable(resume: () => void): void
  /** Bytes of the answer have reached the caller. */
  readonly committed: boolean
  /** Tokens that have reached the caller. */
  readonly tokens: Tokens
}

/** The caller, and how it is written to. */
export interface Recipient {
  readonly response: ServerResponse
  /** Milliseconds without progress after which a caller who does not read is cut off. */
  readonly idleWriteMs: number
  /** Null where the node answers with the name that the caller wrote: then no byte is changed. */
  readonly rename: ModelRename | null
  /** Sent with the answer, besides what is let through of the node's. */
  readonly responseHeaders: OutgoingHttpHeaders
}

/** A caller of an API that is known. */
export interface ApiRecipient extends Recipient {
  readonly api: Api
  /** Lines of a stream that no client can read, told once at its end. */
  readonly malformed: (lines: number) => void
  /** Seconds since the node was sent the request. */
  readonly elapsedS: () => number
}

/** What deliveries to a caller have in common. */
export class ResponseWriter<To extends Recipient = ApiRecipient> {
  protected readonly head: AnswerHead
  protected readonly recipient: To
  /** The caller kept the node waiting. */
  protected isSlow = false

  constructor(head: AnswerHead, recipient: To) {
    this.head = head
    this.recipient = recipient
  }

  close(): void {}

  get isFull(): boolean {
    return this.recipient.response.socket?.writableNeedDrain ?? false
  }

  get committed(): boolean {
    return this.recipient.response.headersSent
  }

  onceWritable(resume: () => void): void {
    this.isSlow = true
    const { socket } = this.recipient.response
    // The socket's own limit, since it sees a reader who takes little at a time. Node closes the connection.
    socket?.setTimeout(this.recipient.idleWriteMs)
    socket?.once('drain', () => {
      socket.setTimeout(0)
      resume()
    })
  }

  protected renamed(bytes: Buffer): Buffer {
    const { rename } = this.recipient
    return rename ? renameModel(bytes, rename) : bytes
  }

  /** Headers of an answer that reach the caller; hop-by-hop ones and cookies are the node's own business. */
  protected commit(length?: number | string): void {
    const { status, headers } = this.head
    const sent = { ...this.recipient.responseHeaders }
    for (const name of ['content-type', 'cache-control'] as const) {
      if (headers[name] !== undefined) sent[name] = headers[name]
    }
    if (length !== undefined) sent['content-length'] = length
    this.recipient.response.writeHead(status, sent)
  }
}
