import assert from 'node:assert/strict'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { after, before, test } from 'node:test'
import type { Snapshot } from '../../lib/fleet/snapshot.ts'
import { aSnapshot } from './fleet.ts'
import { startGateway } from './gateway.ts'
import { eventually, exchangeBytes, type RawNode, rawAnswer, startRawNode } from './wire.ts'

/** Uncaught errors of this process; node:test reports only those of a test that is still running. */
const crashes: unknown[] = []
process.on('uncaughtExceptionMonitor', (error) => crashes.push(error))
process.on('unhandledRejection', (reason) => crashes.push(reason))

type Serve = Parameters<typeof startRawNode>[0]

interface Sketch extends Omit<NonNullable<Parameters<typeof aSnapshot>[0]>, 'nodes'> {
  /** What the node under test does; it answers properly by default. */
  readonly serve?: Serve
  readonly loopback?: boolean
  readonly slots?: number
  readonly nodeHeaders?: Readonly<Record<string, string>>
}

/** A gateway in front of one raw node with model `m`, and of a healthy one with model `canary`. */
export interface WireGateway extends AsyncDisposable {
  readonly gateway: Awaited<ReturnType<typeof startGateway>>
  /** The node under test: what it received is what got through. */
  readonly node: RawNode
  readonly snapshot: Snapshot
  /** See `exchangeBytes`. */
  send(bytes: string | Buffer, enough?: RegExp): Promise<string>
  /** The rest of every case: it still serves, holds no slot, and nothing went uncaught or was a bug of ours. */
  assertWell(): Promise<void>
}

export const properAnswer: Serve = (socket) => socket.write(rawAnswer('{"done":true}'))

export async function startWireGateway(sketch: Sketch = {}): Promise<WireGateway> {
  const { serve = properAnswer, loopback = true, slots = 8, nodeHeaders = {}, ...fleet } = sketch
  const node = await startRawNode(serve)
  const healthy = await startRawNode(properAnswer)
  const snapshot = aSnapshot({
    ...fleet,
    nodes: [
      { name: 'a', url: node.url, slots, headers: nodeHeaders, loaded: ['m:latest'] },
      { name: 'healthy', url: healthy.url, models: ['canary:latest'], loaded: ['canary:latest'] },
    ],
  })
  const gateway = await startGateway(snapshot, { loopback })
  const send = (bytes: string | Buffer, enough?: RegExp) => exchangeBytes(gateway.port, bytes, enough)
  return {
    gateway,
    node,
    snapshot,
    send,
    async assertWell() {
      await eventually(() => isIdle(gateway), 'no request runs or waits any more', 5000)
      assert.match(await send(canary, /"done":true/), loopback ? /^HTTP\/1.1 200 OK/ : /^HTTP\/1.1 403 /)
      assert.deepEqual(crashes, [])
      assert.deepEqual(
        gateway.lines.filter(({ level }) => level === 'error'),
        [],
      )
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await node[Symbol.asyncDispose]()
      await healthy[Symbol.asyncDispose]()
    },
  }
}

function isIdle({ scheduler }: WireGateway['gateway']): boolean {
  const { running, queued } = scheduler.summary()
  return queued === 0 && Object.values(running).every((count) => count === 0)
}

/** Bytes in, answer out. */
export interface WireCase {
  /** A sentence's end, with the numbers of its cases in parentheses. */
  readonly name: string
  readonly bytes: string | Buffer
  readonly answer: RegExp
}

/** A table of cases of which no node may see a byte, each with `assertWell` after it, as tests of the suite around. */
export function refuses(cases: readonly WireCase[], sketch?: Sketch): void {
  let wire: WireGateway
  before(async () => {
    wire = await startWireGateway(sketch)
  })
  after(() => wire[Symbol.asyncDispose]())
  for (const { name, bytes, answer } of cases) {
    test(name, async () => {
      assert.match(await wire.send(bytes, answer), answer)
      assert.deepEqual(wire.node.received, [], 'a node saw bytes of a refused request')
      await wire.assertWell()
    })
  }
}

/**
 * The p99 of the event loop's delay while `work` runs, in milliseconds. The smallest of five: what blocks does so each
 * time, whereas the machine is slow now and then.
 */
export async function loopDelayDuring(work: () => Promise<unknown>): Promise<number> {
  const delays: number[] = []
  for (let n = 0; n < 5; n++) {
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    await work()
    delay.disable()
    delays.push(delay.percentile(99) / 1e6)
  }
  return Math.min(...delays)
}

/** A request with a body, framed by its length. */
export function post(path: string, body: string | Buffer, headers = ''): string {
  const text = typeof body === 'string' ? body : body.toString('latin1')
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${text}`
}

/** A request with a body, framed by these chunks, which need not be any. */
export function postChunks(path: string, chunks: string, headers = ''): string {
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n${headers}\r\n${chunks}`
}

export function get(target: string, headers = 'Host: x\r\n', version = 'HTTP/1.1'): string {
  return `GET ${target} ${version}\r\n${headers}\r\n`
}

export const chat = '{"model":"m","stream":false,"messages":[]}'
/** `chat` as one chunk and the last one. */
export const chatChunks = `${chat.length.toString(16)}\r\n${chat}\r\n0\r\n\r\n`
const canary = post('/api/chat', chat.replace('"m"', '"canary"'), 'Connection: close\r\n')

/** The statuses of the answers in `bytes`, in order. */
export function statuses(bytes: string): string[] {
  return [...bytes.matchAll(/HTTP\/1\.1 (\d{3}) [A-Z]/g)].map(([, status]) => status ?? '')
}
