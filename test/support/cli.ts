import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough, Writable } from 'node:stream'
import { json } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import type { CandidateAnswer } from '../../lib/api/estimate.ts'
import type { NodeAnswer } from '../../lib/api/nodes.ts'
import { type CliContext, runCli } from '../../lib/cli/program.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'

export const token = 'canary-admin-token'

interface Received {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
}
export type Answer =
  | { status?: number; body?: unknown }
  | ((response: ServerResponse, received: Received) => void)

/** A stand-in for the admin API: answers by `METHOD /path`, 404 elsewhere, and keeps what it was sent. */
export async function fakeAdmin(t: TestContext, answers: Record<string, Answer>) {
  const received: Received[] = []
  const server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request
    const body = headers['content-type'] ? await json(request) : null
    const got = { method, path: url.replace('/admin/v1', ''), headers, body }
    received.push(got)
    const answer = answers[`${method} ${got.path}`] ?? refusal(404, 'not_found', `no ${url}`)
    if (typeof answer === 'function') return answer(response, got)
    response.writeHead(answer.status ?? 200, { 'content-type': 'application/json' })
    response.end(answer.body === undefined ? '' : JSON.stringify(answer.body))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received }
}

export function refusal(status: number, code: string, message: string, hint?: string) {
  return { status, body: { error: { code, message, ...(hint && { hint }) } } }
}

class Sink extends Writable {
  text = ''
  isTTY = false
  columns = 200

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk
    done()
  }
}

interface Given extends Partial<CliContext> {
  readonly url?: string
  /** What is typed; being given one makes stdin and stderr a terminal. */
  readonly typed?: string
  /** stdout and stderr are a terminal. */
  readonly tty?: boolean
}

/** Starts one command line; `stdout` and `stderr` can be watched while it runs. */
export function start(
  line: string,
  { url = 'http://127.0.0.1:1', typed, tty = false, ...given }: Given = {},
) {
  const stdin = Object.assign(new PassThrough(), { isTTY: typed !== undefined })
  stdin.end(typed ?? '')
  const stdout = Object.assign(new Sink(), { isTTY: tty })
  const stderr = Object.assign(new Sink(), { isTTY: tty || typed !== undefined })
  const none = () => assert.fail('not this command')
  const done = runCli(line.split(' '), {
    adminUrl: url,
    adminToken: () => token,
    stdin,
    stdout,
    stderr,
    colour: false,
    version: '1.2.3',
    clock: new VirtualClock(new Date('2026-01-13T00:00:00Z')),
    signal: new AbortController().signal,
    settings: () => [],
    editor: 'false',
    run: { serve: none, quickstart: none, agent: none, simulateNode: none, rehearse: none },
    defaultFleet: async () => '',
    ...given,
  })
  return { done, stdout, stderr }
}

export async function llamero(line: string, given?: Given) {
  const { done, stdout, stderr } = start(line, given)
  const code = await done
  assert.ok(!`${stdout.text}${stderr.text}`.includes(token), 'the admin token must never be printed')
  return { code, out: stdout.text, err: stderr.text }
}

/** Lets virtual time pass whenever a command waits for the next look, until it ends. */
export async function drive(clock: VirtualClock, done: Promise<number>): Promise<number> {
  let ended = false
  const end = () => {
    ended = true
  }
  done.then(end, end)
  while (!ended) {
    const next = clock.nextTimerAt()
    // Further away than a look is the deadline of a request under way: its answer comes in real time.
    if (next !== null && next - clock.now() <= 1000) await clock.advance(next - clock.now())
    else await new Promise((resolve) => setImmediate(resolve))
  }
  return done
}

export function aCandidate(given: Partial<CandidateAnswer> = {}): CandidateAnswer {
  return {
    node: 'gpu-a',
    state: 'ready',
    start_seconds: 0,
    prefill_seconds: 0,
    decode_seconds: 0,
    externality_seconds: 0,
    eviction_seconds: 0,
    cost_seconds: 0,
    ...given,
  }
}

export function aNode(given: Partial<NodeAnswer> & { name: string }): NodeAnswer {
  return {
    url: `http://${given.name}:11434`,
    source: 'operator',
    state: 'active',
    health: 'up',
    reason: '',
    since: '2026-01-01T00:00:00Z',
    weight: 1,
    slots: 4,
    slots_by_model: {},
    labels: {},
    version: '0.15.0',
    running: 0,
    running_by_instance: {},
    breaker: 'closed',
    frozen: false,
    loaded: [],
    models: [],
    vram_bytes: 0,
    rejected: [],
    ...given,
  }
}
