import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Timings } from '../../lib/scheduler/events.ts'
import type { TrafficRequest } from '../../lib/simulation/fleet/traffic.ts'
import type { VirtualNode } from '../../lib/simulation/fleet/virtual-node.ts'
import { keepAliveMs } from '../../lib/simulation/http/engine/fingerprint.ts'
import type { Pace } from './routing-live-pace.ts'

/** Seconds of the timeline between two writes to a stream: tokens go out in bundles, since it is not them that is measured. */
const flushPeriod = 1

const epoch = '2026-01-01T00:00:00Z'
const notFound = { error: 'model not found' }
const busy = { error: 'server busy, please try again.  maximum pending requests exceeded' }

interface ChatBody {
  readonly model: string
  /** A number of seconds, or a duration. */
  readonly keep_alive?: number | string
  /** Which request of the trace it is. */
  readonly options?: { readonly seed?: number }
}

interface LiveNodeOptions {
  readonly node: VirtualNode
  readonly pace: Pace
  readonly requests: readonly TrafficRequest[]
}

/** A node of the rehearsal behind a socket: as much of Ollama's HTTP as a proxy in front of it uses. */
export class LiveNode {
  readonly #node: VirtualNode
  readonly #pace: Pace
  readonly #requests: readonly TrafficRequest[]
  readonly #server: Server
  /** Each writes what its stream has to say since the last time. */
  readonly #streams = new Set<() => void>()

  private constructor({ node, pace, requests }: LiveNodeOptions) {
    this.#node = node
    this.#pace = pace
    this.#requests = requests
    this.#server = createServer({ noDelay: true, keepAliveTimeout: 0 }, (request, response) => {
      this.#serve(request, response)
    })
  }

  static async start(options: LiveNodeOptions): Promise<LiveNode> {
    const live = new LiveNode(options)
    live.#server.listen(0, '127.0.0.1')
    await once(live.#server, 'listening')
    return live
  }

  get plan() {
    return this.#node.plan
  }

  /** On its disk. */
  get models(): ReadonlySet<string> {
    return new Set(this.#node.facts().models.keys())
  }

  get loads() {
    return this.#node.loads
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Writes to every stream what it has to say. */
  flush(): void {
    for (const write of this.#streams) write()
  }

  stop(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    this.#pace.act(() => this.#answer(request.url ?? '', Buffer.concat(parts), response))
  }

  #answer(path: string, body: Buffer, response: ServerResponse): void {
    if (path === '/api/version') sendJson(response, 200, { version: '0.32.15' })
    else if (path === '/api/tags') sendJson(response, 200, { models: this.#onDisk() })
    else if (path === '/api/ps') sendJson(response, 200, { models: this.#inMemory() })
    else if (path === '/api/generate') this.#load(JSON.parse(String(body)), response)
    else if (path === '/api/chat') this.#chat(JSON.parse(String(body)), response)
    else sendJson(response, 404, notFound)
  }

  #onDisk() {
    return Array.from(this.#node.facts().models, ([name, size]) => ({
      ...modelLine(name),
      size,
      modified_at: epoch,
    }))
  }

  #inMemory() {
    return this.#node.facts().resident.map(({ model, size, sizeVram, contextLength }) => ({
      ...modelLine(model),
      size,
      size_vram: sizeVram,
      context_length: contextLength,
      expires_at: epoch,
    }))
  }

  /** A request without a prompt loads its model, or lets go of it. */
  #load({ model, keep_alive }: ChatBody, response: ServerResponse): void {
    const isResident = this.#node.facts().resident.some((runner) => runner.model === model)
    const done = { model, created_at: epoch, response: '', done: true }
    const keepAlive = keepAliveMs(keep_alive)
    if (keepAlive === 0 && !isResident) {
      sendJson(response, 200, done)
      return
    }
    const attempt = this.#node.submit({
      model,
      promptTokens: 0,
      outputTokens: 0,
      conversation: -1,
      reusableTokens: 0,
      keepAlive: keepAlive === null ? null : keepAlive / 1000,
      onFirstToken() {},
      onEnd: (timings) => sendJson(response, timings ? 200 : 404, timings ? done : notFound),
      onBusy: () => sendJson(response, 503, busy),
    })
    this.#whenLeft(response, () => attempt.hangUp())
  }

  #chat({ model, options }: ChatBody, response: ServerResponse): void {
    const request = this.#requests[options?.seed ?? -1]
    if (!request) {
      sendJson(response, 400, { error: 'not of the trace' })
      return
    }
    const message = { role: 'assistant', content: ' token' }
    const line = `${JSON.stringify({ ...headOf(model), message, done: false })}\n`
    let told = 0
    const write = (tokens = attempt.written()) => {
      if (tokens > told) response.write(line.repeat(tokens - told))
      told = Math.max(told, tokens)
    }
    const attempt = this.#node.submit({
      ...request,
      keepAlive: null,
      onFirstToken: () => {
        response.writeHead(200, { 'content-type': 'application/x-ndjson' })
        write(1)
        this.#streams.add(write)
      },
      onEnd: (timings) => {
        this.#streams.delete(write)
        if (!timings) {
          sendJson(response, 404, notFound)
          return
        }
        write(timings.outputTokens)
        response.end(lastLine(model, timings))
      },
      onBusy: () => sendJson(response, 503, busy),
    })
    this.#whenLeft(response, () => {
      this.#streams.delete(write)
      attempt.hangUp()
    })
  }

  #whenLeft(response: ServerResponse, action: () => void): void {
    response.once('close', () => {
      if (!response.writableEnded) this.#pace.act(action)
    })
  }
}

/** Has the streams of all nodes written to, now and then. */
export function keepFlushing(nodes: readonly LiveNode[], pace: Pace): () => void {
  const timer = setInterval(
    () => {
      pace.act(() => {
        for (const node of nodes) node.flush()
      })
    },
    (flushPeriod * 1000) / pace.speed,
  )
  return () => clearInterval(timer)
}

function modelLine(name: string) {
  return { name, model: name, digest: Buffer.from(name).toString('hex').padEnd(64, '0'), details: {} }
}

function headOf(model: string) {
  return { model, created_at: epoch }
}

/** Ollama's own measurements, in nanoseconds. */
function lastLine(model: string, timings: Timings): string {
  const ns = (seconds: number) => Math.round(seconds * 1e9)
  const line = {
    ...headOf(model),
    message: { role: 'assistant', content: '' },
    done: true,
    done_reason: 'stop',
    total_duration: ns(timings.total),
    load_duration: ns(timings.load),
    prompt_eval_count: timings.promptTokens,
    prompt_eval_duration: ns(timings.promptEval),
    eval_count: timings.outputTokens,
    eval_duration: ns(timings.eval),
  }
  return `${JSON.stringify(line)}\n`
}

function sendJson(response: ServerResponse, status: number, value: object): void {
  const body = JSON.stringify(value)
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
  })
  response.end(body)
}
