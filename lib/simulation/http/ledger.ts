import type { Clock } from '../../shared/clock.ts'

/** Long runs keep the latest of these many events and requests, so that a benchmark does not fill the memory. */
const most = 20_000

export type EventType =
  | 'conn'
  | 'request'
  | 'queued'
  | 'reject-503'
  | 'load-start'
  | 'load-end'
  | 'load-wasted'
  | 'evict'
  | 'reload'
  | 'unload'
  | 'sem-wait'
  | 'first-token'
  | 'done'
  | 'client-abort'
  | 'fault'

/** One thing that happened on a node. */
export interface NodeEvent {
  /** Clock milliseconds. */
  readonly t: number
  readonly type: EventType
  /** Number of the request, from 0. */
  readonly request?: number
  readonly model?: string
  readonly fault?: string
}

/** One request as it arrived, and its end. Times in clock milliseconds. */
export interface RequestRecord {
  readonly id: number
  readonly method: string
  readonly path: string
  /** Names and values in turn, in the order and case they came in. */
  readonly rawHeaders: readonly string[]
  readonly arrivedAt: number
  /** Empty on the route that takes its body as a stream. */
  readonly rawBody: Buffer
  /** The decoded body; undefined when there is none or it is no JSON. */
  readonly body: unknown
  /** When the client left before the answer was complete, else null. */
  readonly abortedAt: number | null
  readonly endedAt: number | null
}

interface ModelLoad {
  readonly inFlight: number
  readonly peak: number
}

export interface NodeStats {
  readonly requests: number
  readonly aborted: number
  readonly rejected: number
  /** Generating requests by canonical model name. */
  readonly models: Readonly<Record<string, ModelLoad>>
  readonly loads: number
  /** Loads lost because the client left. */
  readonly wastedLoads: number
  readonly evictions: number
  /** Evictions for a request that needs the same model with other options. */
  readonly reloads: number
  readonly maxPending: number
  readonly tokens: number
  readonly cachedTokens: number
  readonly connections: { readonly open: number; readonly peak: number }
}

type Arrival = Pick<RequestRecord, 'method' | 'path' | 'rawHeaders'>

/** Events and requests of a node: its parts write them, tests and the log read them. */
export class Ledger {
  readonly #clock: Clock
  readonly #events: NodeEvent[] = []
  readonly #requests: RequestRecord[] = []
  readonly #counts = new Map<EventType, number>()
  readonly #models = new Map<string, { inFlight: number; peak: number }>()
  readonly #connections = { open: 0, peak: 0 }
  #maxPending = 0
  #tokens = 0
  #cachedTokens = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get events(): readonly NodeEvent[] {
    return this.#events
  }

  get requests(): readonly RequestRecord[] {
    return this.#requests
  }

  record(event: Omit<NodeEvent, 't'>): void {
    this.#counts.set(event.type, this.#count(event.type) + 1)
    keep(this.#events, { t: this.#clock.now(), ...event })
  }

  /** A request arrived. The returned entry is this ledger's own; `update` changes it. */
  arrive(arrival: Arrival): RequestEntry {
    const entry: RequestEntry = {
      ...arrival,
      id: this.#count('request'),
      arrivedAt: this.#clock.now(),
      rawBody: Buffer.alloc(0),
      body: undefined,
      abortedAt: null,
      endedAt: null,
    }
    keep(this.#requests, entry)
    this.record({ type: 'request', request: entry.id })
    return entry
  }

  ended(entry: RequestEntry): void {
    entry.endedAt = this.#clock.now()
    this.record({ type: 'done', request: entry.id })
  }

  aborted(entry: RequestEntry): void {
    entry.abortedAt = this.#clock.now()
    this.record({ type: 'client-abort', request: entry.id })
  }

  queued(request: number, model: string, pending: number): void {
    this.#maxPending = Math.max(this.#maxPending, pending)
    this.record({ type: 'queued', request, model })
  }

  /** Counts a request of `model` as in flight until disposed of. */
  flight(model: string): Disposable {
    const load = this.#models.get(model) ?? { inFlight: 0, peak: 0 }
    this.#models.set(model, load)
    load.inFlight++
    load.peak = Math.max(load.peak, load.inFlight)
    return { [Symbol.dispose]: () => load.inFlight-- }
  }

  token(): void {
    this.#tokens++
  }

  cached(tokens: number): void {
    this.#cachedTokens += tokens
  }

  connected(): void {
    this.#connections.open++
    this.#connections.peak = Math.max(this.#connections.peak, this.#connections.open)
    this.record({ type: 'conn' })
  }

  disconnected(): void {
    this.#connections.open--
  }

  stats(): NodeStats {
    return {
      requests: this.#count('request'),
      aborted: this.#count('client-abort'),
      rejected: this.#count('reject-503'),
      models: Object.fromEntries([...this.#models].map(([name, load]) => [name, { ...load }])),
      loads: this.#count('load-end'),
      wastedLoads: this.#count('load-wasted'),
      evictions: this.#count('evict'),
      reloads: this.#count('reload'),
      maxPending: this.#maxPending,
      tokens: this.#tokens,
      cachedTokens: this.#cachedTokens,
      connections: { ...this.#connections },
    }
  }

  #count(type: EventType): number {
    return this.#counts.get(type) ?? 0
  }
}

/** A record that is still written to. */
export type RequestEntry = { -readonly [Key in keyof RequestRecord]: RequestRecord[Key] }

/** Drops the older half at once, so that keeping costs little per entry. */
function keep<T>(list: T[], entry: T): void {
  list.push(entry)
  if (list.length > most) list.splice(0, most / 2)
}
