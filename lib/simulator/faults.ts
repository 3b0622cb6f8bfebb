import { STATUS_CODES } from 'node:http'
import type { Failure } from './answer.ts'
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
  readonly times?: number | 'always'
}

/** What a struck request goes through. One answer is counted in chunks: lines, events, or one whole body. */
export interface Plan {
  readonly blackhole?: true
  readonly answer?: {
    readonly status: number
    readonly body: string
    readonly headers: Readonly<Record<string, string>>
  }
  readonly busy?: true
  readonly cut?: { readonly after: number; readonly how: 'reset' | 'reset-after-headers' | 'end' }
  readonly stall?: { readonly after: number; readonly ms: number }
  readonly failure?: Failure
}

interface Fault {
  readonly name: string
  readonly plan: Plan
  readonly match: FaultMatch
  remaining: number
}

/** What only the node as a whole can do. */
export interface NodeSwitch {
  refuse(): Promise<void>
  accept(): Promise<void>
  restart(downMs: number): Promise<void>
}

const calm: Plan = {}

/** The faults of one node (fake-ollama.md §7). Several may strike one request; `clear` ends those that strike requests. */
export class Faults {
  readonly #ledger: Ledger
  readonly #node: NodeSwitch
  #faults: Fault[] = []

  constructor(ledger: Ledger, node: NodeSwitch) {
    this.#ledger = ledger
    this.#node = node
  }

  /** Closes the listening socket, so that connects are refused; streams under way go on. */
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
    return this.#node.restart(downMs)
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

  /** Ends the answer in good order after `chunks` chunks, with no last line. */
  truncate(chunks: number, options?: FaultOptions): void {
    this.#add('truncate', { cut: { after: chunks, how: 'end' } }, options)
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

  /** Every request for a model that is not ready gets the 503 of a full queue. */
  busy(options?: FaultOptions): void {
    this.#add('busy', { busy: true }, options)
  }

  /** The runner fails with `text` after `chunks` tokens: a real status at 0, in-band (on /v1 swallowed) later. */
  errorLine(chunks: number, text: string, options?: FaultOptions): void {
    this.#add('errorLine', { failure: { after: chunks, text } }, options)
  }

  /** Ends every fault that strikes requests which have yet to come. */
  clear(): void {
    this.#faults = []
  }

  /** What happens to this request; it uses up one of each fault that strikes it. */
  claim(request: Required<FaultMatch>, id: number): Plan {
    const struck = this.#faults.filter((fault) => matches(fault.match, request))
    if (struck.length === 0) return calm
    for (const fault of struck) {
      fault.remaining--
      this.#log(fault.name, id)
    }
    this.#faults = this.#faults.filter((fault) => fault.remaining > 0)
    return Object.assign({}, ...struck.map((fault) => fault.plan))
  }

  #add(name: string, plan: Plan, { match = {}, times = 'always' }: FaultOptions = {}): void {
    const remaining = times === 'always' ? Number.POSITIVE_INFINITY : times
    this.#faults.push({ name, plan, match, remaining })
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
