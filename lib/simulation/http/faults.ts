import { STATUS_CODES } from 'node:http'
import type { PlannedFailure } from './dialects/answer.ts'
import type { Stall } from './disk/downloads.ts'
import type { Ledger } from './ledger.ts'

/** Which requests a fault strikes: all fields given must match; none given matches every request, probes too. */
export interface FaultMatch {
  readonly path?: string
  readonly method?: string
  /** The name in the request's `model` field, as the caller wrote it. */
  readonly model?: string
}

export interface FaultOptions {
  readonly match?: FaultMatch
  /** How many requests it strikes; always, when not given. */
  readonly times?: number | 'always' | Budget
}

/** Requests that a fault still strikes. Faults of several nodes may share one count: the first node that is asked strikes. */
export interface Budget {
  left: number
}

/** What happens to a struck request. An answer is counted in chunks: lines, events, or one whole body. */
export interface FaultPlan {
  readonly blackhole?: true
  readonly answer?: {
    readonly status: number
    readonly body: string
    readonly headers: Readonly<Record<string, string>>
  }
  /** `retryAfter` in seconds; null: no header, as real Ollama. */
  readonly busy?: { readonly retryAfter: number | null }
  readonly cut?: {
    readonly after: number
    readonly how: 'reset' | 'reset-after-headers' | 'reset-in-chunk' | 'end'
  }
  /** A chunk that is no JSON goes out after this many. */
  readonly garbage?: { readonly after: number }
  /** The stream ends cleanly, without its terminator. */
  readonly unterminated?: true
  /** Every chunk is written in pieces of `bytes` bytes, `ms` milliseconds apart. */
  readonly drip?: { readonly bytes: number; readonly ms: number }
  readonly stall?: { readonly after: number; readonly ms: number }
  readonly failure?: PlannedFailure
  readonly downloadStall?: Stall
  /** What a pull fetches does not match its digest. */
  readonly corruptDownload?: true
  /** The name of the registry's host cannot be resolved, as in a network without a way out. */
  readonly registryAway?: true
  /** A blob cannot grow beyond this size. */
  readonly diskFull?: { readonly atMiB: number }
}

interface Fault {
  readonly name: string
  readonly plan: FaultPlan
  readonly match: FaultMatch
  readonly budget: Budget
}

/** What only the node itself can do. */
export interface NodeSwitch {
  refuse(): Promise<void>
  accept(): Promise<void>
  /** @param killed its runners survive and keep their memory. */
  restart(downMs: number, killed: boolean): Promise<void>
  crashRunners(): void
}

const calm: FaultPlan = {}

/** The faults of one node. Several may strike one request; `clear` ends all faults that strike requests. */
export class Faults {
  readonly #ledger: Ledger
  readonly #node: NodeSwitch
  #faults: Fault[] = []

  constructor(ledger: Ledger, node: NodeSwitch) {
    this.#ledger = ledger
    this.#node = node
  }

  /** Closes the listening socket, so that connects are refused; open streams go on. */
  refuse(): Promise<void> {
    this.#log('refuse')
    return this.#node.refuse()
  }

  /** Listens again, on the same port. */
  accept(): Promise<void> {
    return this.#node.accept()
  }

  /** Drops every connection, loses what is loaded and cached, and listens again after `downMs`, when it resolves. */
  restart({ downMs }: { readonly downMs: number }): Promise<void> {
    this.#log('restart')
    return this.#node.restart(downMs, false)
  }

  /**
   * The same for a node that was killed and could end nothing: its llama-server processes live on, hold their memory, and
   * are not in the list of the node that is started in its place.
   */
  kill({ downMs }: { readonly downMs: number }): Promise<void> {
    this.#log('kill')
    return this.#node.restart(downMs, true)
  }

  /** Kills all runners: open answers fail at their next token, and the next request loads its model again. */
  crashRunners(): void {
    this.#log('crashRunners')
    this.#node.crashRunners()
  }

  /** Accepts and reads, and never answers. */
  blackhole(options?: FaultOptions): void {
    this.#add('blackhole', { blackhole: true }, options)
  }

  /** Resets the connection after `chunks` chunks; 0: before the first byte, headers included. */
  resetAfter(chunks: number, options?: FaultOptions): void {
    this.#add('resetAfter', { cut: { after: chunks, how: 'reset' } }, options)
  }

  /** Sends the headers when the first chunk is due, and resets the connection. */
  dropAfterHeaders(options?: FaultOptions): void {
    this.#add('dropAfterHeaders', { cut: { after: 0, how: 'reset-after-headers' } }, options)
  }

  /** Ends the answer cleanly after `chunks` chunks, without its last line. */
  truncate(chunks: number, options?: FaultOptions): void {
    this.#add('truncate', { cut: { after: chunks, how: 'end' } }, options)
  }

  /** Ends the answer cleanly without its terminator: the line with `done`, `[DONE]`, or the closing event. */
  dropTerminator(options?: FaultOptions): void {
    this.#add('dropTerminator', { unterminated: true }, options)
  }

  /** Resets the connection in the middle of the chunk that follows `chunks` whole ones. */
  cutInChunk(chunks: number, options?: FaultOptions): void {
    this.#add('cutInChunk', { cut: { after: chunks, how: 'reset-in-chunk' } }, options)
  }

  /** Sends a line, or an event, that is no JSON after `chunks` chunks, and goes on. */
  garbageLine(chunks: number, options?: FaultOptions): void {
    this.#add('garbageLine', { garbage: { after: chunks } }, options)
  }

  /** Writes every chunk in pieces of `bytes` bytes, across lines and characters alike, `ms` milliseconds apart. */
  drip(bytes: number, ms: number, options?: FaultOptions): void {
    this.#add('drip', { drip: { bytes, ms } }, options)
  }

  /** Pauses `ms` milliseconds after `chunks` chunks. */
  stallAfter(chunks: number, ms: number, options?: FaultOptions): void {
    this.#add('stallAfter', { stall: { after: chunks, ms } }, options)
  }

  /** Holds the first byte, headers included, back by `ms` milliseconds. */
  slowFirstByte(ms: number, options?: FaultOptions): void {
    this.#add('slowFirstByte', { stall: { after: 0, ms } }, options)
  }

  /** Answers at once; a body that is no string goes out as JSON, and without one there is an error of that name. */
  status(
    status: number,
    body: unknown = { error: STATUS_CODES[status] ?? 'simulated fault' },
    headers: Readonly<Record<string, string>> = {},
    options?: FaultOptions,
  ): void {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    this.#add('status', { answer: { status, body: text, headers } }, options)
  }

  /** An error with the status and the body of Ollama's child process: JSON inside JSON (docs/ollama.md#answers). */
  childError(status: number, message: string, options?: FaultOptions): void {
    const child = JSON.stringify({ error: { code: status, message, type: 'server_error' } })
    this.status(status, { error: child }, {}, options)
  }

  /** Every request for a model that is not loaded gets the 503 of a full queue. */
  busy({ retryAfter, ...options }: FaultOptions & { readonly retryAfter?: number } = {}): void {
    this.#add('busy', { busy: { retryAfter: retryAfter ?? null } }, options)
  }

  /** The runner fails with `text` after `chunks` tokens: a real status at 0, in-band (on /v1 swallowed) later. */
  errorLine(chunks: number, text: string, options?: FaultOptions): void {
    this.#add('errorLine', { failure: { after: chunks, text } }, options)
  }

  /** A blob that a pull begins to fetch stands still for `ms` milliseconds at `atMiB` MiB. */
  stallDownload(atMiB: number, ms: number, options?: FaultOptions): void {
    this.#add('stallDownload', { downloadStall: { atMiB, ms } }, options)
  }

  /** A pull fetches everything, finds that a digest is wrong, and throws the blob away. */
  corruptDownload(options?: FaultOptions): void {
    this.#add('corruptDownload', { corruptDownload: true }, options)
  }

  /** Neither a manifest nor a layer can be asked of the registry, in either direction. */
  registryAway(options?: FaultOptions): void {
    this.#add('registryAway', { registryAway: true }, options)
  }

  /** There is no space for a blob, pulled or posted, beyond `atMiB` MiB. */
  diskFull(atMiB: number, options?: FaultOptions): void {
    this.#add('diskFull', { diskFull: { atMiB } }, options)
  }

  /** Ends every fault that strikes future requests. */
  clear(): void {
    this.#faults = []
  }

  /** What happens to this request; it uses up one of each fault that strikes it. */
  claim(request: Required<FaultMatch>, id: number): FaultPlan {
    this.#faults = this.#faults.filter(({ budget }) => budget.left > 0)
    const struck = this.#faults.filter((fault) => matches(fault.match, request))
    if (struck.length === 0) return calm
    for (const fault of struck) {
      fault.budget.left--
      this.#log(fault.name, id)
    }
    return Object.assign({}, ...struck.map((fault) => fault.plan))
  }

  #add(name: string, plan: FaultPlan, { match = {}, times = 'always' }: FaultOptions = {}): void {
    const budget =
      typeof times === 'object' ? times : { left: times === 'always' ? Number.POSITIVE_INFINITY : times }
    this.#faults.push({ name, plan, match, budget })
  }

  #log(fault: string, request?: number): void {
    this.#ledger.record({ type: 'fault', fault, ...(request === undefined ? {} : { request }) })
  }
}

function matches(match: FaultMatch, request: Required<FaultMatch>): boolean {
  return (
    (match.path === undefined || match.path === request.path) &&
    (match.method === undefined || match.method === request.method) &&
    (match.model === undefined || match.model === request.model)
  )
}
