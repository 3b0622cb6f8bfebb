import { Agent, request as open } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TrafficOutcome } from '../../lib/simulation/fleet/tally.ts'
import type { Timeline } from '../../lib/simulation/fleet/timeline.ts'
import type { TrafficRequest } from '../../lib/simulation/fleet/traffic.ts'
import type { Pace } from './routing-live-pace.ts'

/** Who has not been answered so long after the last request was sent is lost; seconds of the timeline. */
const longestWait = 2400
/** Until the first request. */
const settlePeriod = 10
const lookMs = 100

const bytesPerToken = 4
/** Of a message besides its text. */
const emptyMessage = JSON.stringify(message('')).length

interface CallersOptions {
  readonly port: number
  readonly pace: Pace
  /** By tenant; a contestant without tenants has no use for them. */
  readonly tokens: ReadonlyMap<string, string>
}

/** What only a virtual server can tell. */
const untold = { cachedTokens: 0 }

/** Sends requests whether or not earlier ones are answered, and notes what becomes of them. */
export class Callers {
  readonly #options: CallersOptions
  readonly #agent = new Agent({ keepAlive: true })
  readonly #outcomes = new Map<TrafficRequest, TrafficOutcome>()

  constructor(options: CallersOptions) {
    this.#options = options
  }

  /** Sends each request when its time has come, and resolves to what became of them. */
  async sendAll(requests: readonly TrafficRequest[], timeline: Timeline): Promise<TrafficOutcome[]> {
    const { pace } = this.#options
    const beginsAt = pace.now + settlePeriod
    const moved = requests.map((request) => ({ ...request, at: request.at + beginsAt }))
    for (const [index, request] of moved.entries()) timeline.at(request.at, () => this.#send(request, index))
    const overAt = (moved.at(-1)?.at ?? 0) + longestWait
    while (this.#outcomes.size < moved.length && pace.now < overAt) await sleep(lookMs)
    const endedAt = pace.now
    return moved.map(
      (request) =>
        this.#outcomes.get(request) ?? { request, end: 'lost', firstTokenAt: null, endedAt, ...untold },
    )
  }

  close(): void {
    this.#agent.destroy()
  }

  #send(request: TrafficRequest, index: number): void {
    const { port, pace, tokens } = this.#options
    const body = bodyOf(request, index)
    const headers = {
      authorization: `Bearer ${tokens.get(request.tenant) ?? 'none'}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      // The other proxies cannot look into a body; an operator would have their callers say it so.
      'x-model': request.model,
    }
    let firstTokenAt: number | null = null
    const end = (how: TrafficOutcome['end']) => {
      if (!this.#outcomes.has(request))
        this.#outcomes.set(request, { request, end: how, firstTokenAt, endedAt: pace.now, ...untold })
    }
    const call = open(
      { port, host: '127.0.0.1', method: 'POST', path: '/api/chat', agent: this.#agent, headers },
      (answer) => {
        let tail = ''
        answer.on('data', (bytes: Buffer) => {
          if (answer.statusCode === 200) firstTokenAt ??= pace.now
          tail = (tail + bytes.toString('latin1')).slice(-400)
        })
        answer.on('end', () => {
          const isRefusal = answer.headers['retry-after'] !== undefined
          if (answer.statusCode === 200 && tail.includes('"done":true')) end('served')
          else end(isRefusal ? 'refused' : 'failed')
        })
        answer.on('close', () => end('failed'))
      },
    )
    call.on('error', () => end('failed'))
    call.end(body)
  }
}

/** A chat whose messages are its conversation's: each as long as a prefix of the trace is longer than the one before. */
function bodyOf({ model, prefixes }: TrafficRequest, index: number): string {
  let before = 0
  const messages = prefixes.map(({ hash, tokens }) => {
    const length = Math.max(0, (tokens - before) * bytesPerToken - emptyMessage)
    before = tokens
    return message(`${hash} `.repeat(Math.ceil(length / 2)).slice(0, length))
  })
  return JSON.stringify({ model, messages, stream: true, options: { seed: index } })
}

function message(content: string) {
  return { role: 'user', content }
}
