import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { eventually } from '../support/wire.ts'
import { post, startWireGateway } from '../support/wire-gateway.ts'

interface Sketch {
  readonly streams: number
  /** How long they all stream, from when the last has begun. */
  readonly ms: number
  /** What the process may grow by meanwhile. It holds the callers and the node as well. */
  readonly mostMiB: number
}

const beatMs = 250
const head = 'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n'
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`
const token = chunk(`${JSON.stringify({ message: { content: 'word ' }, done: false })}\n`)
const last = `${chunk(`${JSON.stringify({ done: true })}\n`)}0\r\n\r\n`
const request = post('/api/chat', '{"model":"m","messages":[]}')

/** Streams, all at once and for so long: nothing may add up, and each must be whole at its end. */
export async function holdStreams({ streams, ms, mostMiB }: Sketch): Promise<void> {
  const warnings: Error[] = []
  const keep = (warning: Error) => warnings.push(warning)
  process.on('warning', keep)
  const nodeSockets: Socket[] = []
  const idle = held()
  {
    await using wire = await startWireGateway({
      slots: streams,
      config: { timeouts: { connect: '30s', request: '24h' } },
      serve: (socket) => nodeSockets.push(socket) && socket.write(head),
    })
    const all = (text: string) => {
      for (const socket of nodeSockets) socket.write(text)
    }
    const callers = Array.from({ length: streams }, () => call(wire.gateway.port))
    await eventually(() => nodeSockets.length === streams, 'the node has every request', 20_000)
    const beat = setInterval(all, beatMs, token)
    await eventually(() => callers.every(({ pieces }) => pieces > 3), 'every caller reads', 20_000)
    const before = held()
    const [first] = callers
    const readBefore = first?.pieces ?? 0
    await sleep(ms)
    const after = held()
    assert((first?.pieces ?? 0) - readBefore > ms / beatMs / 2, 'they stream all the time')
    assert.equal(after.descriptors, before.descriptors)
    assert(after.resources <= before.resources + 10, `${before.resources} resources, then ${after.resources}`)
    assert(after.mib - before.mib < mostMiB, `${before.mib} MiB, then ${after.mib} MiB`)
    assert.equal(wire.gateway.scheduler.running('a'), streams)

    clearInterval(beat)
    all(last)
    await eventually(() => callers.every(({ tail }) => tail.endsWith(last)), 'every answer is whole', 20_000)
    for (const { socket } of callers) socket.destroy()
    await wire.assertWell()
  }
  process.off('warning', keep)
  assert.deepEqual(warnings, [])
  await eventually(() => held().descriptors <= idle.descriptors + 2, 'every socket is closed', 10_000)
}

/** A caller that keeps only the end of its answer. */
function call(port: number) {
  const socket = connect(port, '127.0.0.1')
  const caller = { socket, pieces: 0, tail: '' }
  socket.setEncoding('latin1').on('data', (text: string) => {
    caller.pieces++
    caller.tail = (caller.tail + text).slice(-last.length)
  })
  socket.write(request)
  return caller
}

/** What this process holds now. */
function held() {
  globalThis.gc?.()
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    /** Sockets, timers and other resources of the event loop. */
    resources: process.getActiveResourcesInfo().length,
    mib: Math.round(process.memoryUsage.rss() / 1024 ** 2),
  }
}
