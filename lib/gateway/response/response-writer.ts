import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Api } from '../../fleet/request-spec.ts'
import { type ModelRename, renameModel } from '../body/rename-model.ts'
import type { TokenUsage } from '../http/exchange.ts'
import type { UpstreamOutcome } from './outcome.ts'

/** The head of a node's response. */
export interface ResponseHead {
  readonly status: number
  readonly contentType: string
  readonly headers: IncomingHttpHeaders
}

/** Takes the body of a node's response. */
export interface Delivery {
  /** Takes a piece of the body. An outcome ends the attempt at once. */
  take(chunk: Buffer): UpstreamOutcome | null
  /** The body ended properly. */
  finish(): UpstreamOutcome
  /** The attempt is over: releases held bytes. */
  close(): void
  /** The caller reads more slowly than the node writes. */
  readonly isFull: boolean
  /** Calls `resume` once, when the caller can take more. */
  onceWritable(resume: () => void): void
  /** Bytes of the response have reached the caller. */
  readonly committed: boolean
  /** Tokens that have reached the caller. */
  readonly tokens: TokenUsage
}

/** The caller, and what to send besides the body. */
export interface Recipient {
  readonly response: ServerResponse
  /** Milliseconds without progress until a caller that does not read is cut off. */
  readonly idleWriteMs: number
  /** Null when the node uses the caller's name for the model: then no byte is changed. */
  readonly rename: ModelRename | null
  /** Headers besides those of the node that are passed on. */
  readonly responseHeaders: OutgoingHttpHeaders
}

/** The caller of a known API. */
export interface ApiRecipient extends Recipient {
  readonly api: Api
  /** Called at the end with the number of unreadable lines of the stream. */
  readonly malformed: (lines: number) => void
  /** Seconds since the request was sent to the node. */
  readonly elapsedS: () => number
}

/** The common part of deliveries to a caller. */
export class ResponseWriter<To extends Recipient = ApiRecipient> {
  protected readonly head: ResponseHead
  protected readonly recipient: To
  /** The caller made the node wait. */
  protected isSlow = false

  constructor(head: ResponseHead, recipient: To) {
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
    // The limit of the socket sees a reader that takes little at a time. Node then closes the connection.
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

  /** Writes the head. Hop-by-hop headers and cookies of the node are not passed on. */
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
