import { Agent, type Dispatcher, request } from 'undici'
import type { NodeSpec } from '../../fleet/node.ts'
import type { Clock } from '../../shared/clock.ts'
import { abortOf, connectionTo, reasonOf, Unexpected } from '../probing/node-connection.ts'
import {
  endingOfLine,
  endingOfPage,
  endingOfStatus,
  type JobEnding,
  type JobLine,
  readLine,
} from './node-task-answer.ts'
import type { NodeTaskRequest } from './node-task-request.ts'

interface JobCall {
  readonly spec: NodeSpec
  readonly order: NodeTaskRequest
  /** Milliseconds a connection may take to come up. */
  readonly connectMs: number
  /** Milliseconds that the node may be silent after a line with this status; "" before the first line. */
  readonly silenceMs: (status: string) => number
  /** Called with each line without an error. */
  readonly heard: (line: JobLine) => void
  readonly clock: Clock
  readonly signal: AbortSignal
}

const maxLineLength = 64 * 1024
const maxLinesAtOnce = 2000

/**
 * Sends one request to a node, over a connection of its own. Never throws; when `signal` aborts, the request ends at
 * once.
 */
export async function callNode({ silenceMs, heard, ...call }: JobCall): Promise<JobEnding> {
  const { spec, connectMs, clock, signal } = call
  const asking = new AbortController()
  const stop = () => asking.abort(signal.reason)
  signal.addEventListener('abort', stop)
  const agent = new Agent({
    ...connectionTo(spec, connectMs),
    connections: 1,
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  let cancel = () => {}
  const listen = (status: string) => {
    cancel()
    const ms = silenceMs(status)
    cancel = clock.after(ms, () => asking.abort(new Unexpected(`it sent nothing for ${ms / 1000} s`)))
  }
  listen('')
  const hear = (line: JobLine) => {
    listen(line.status ?? '')
    heard(line)
  }
  try {
    return await Promise.race([exchange(call, agent, hear, asking.signal), abortOf(asking.signal)])
  } catch (error) {
    return { kind: 'broken', error: reasonOf(error) }
  } finally {
    cancel()
    signal.removeEventListener('abort', stop)
    void agent.destroy()
  }
}

async function exchange(
  { spec, order }: Pick<JobCall, 'spec' | 'order'>,
  dispatcher: Dispatcher,
  heard: (line: JobLine) => void,
  signal: AbortSignal,
): Promise<JobEnding> {
  const { statusCode, body } = await request(spec.url + order.path, {
    dispatcher,
    signal,
    method: order.method,
    headers: { ...spec.headers, 'content-type': 'application/json' },
    body: JSON.stringify(order.body),
  })
  body.setEncoding('utf8')
  if (statusCode !== 200) return endingOfStatus(statusCode, await firstLine(body))
  let last: JobLine | null = null
  let isPage = false
  for await (const text of linesOf(body)) {
    const line = readLine(text)
    if (line === null) {
      isPage ||= text.trim() !== ''
      continue
    }
    if (line.error !== null) return endingOfLine(line.error)
    heard(line)
    last = line
  }
  // The login page of a proxy may have status 200.
  if (isPage && last === null) return endingOfPage(statusCode)
  // A create that pulls its base sends `success` in between, too: only the last line counts.
  if (!order.isStream || last?.status === 'success') return { kind: 'done' }
  return { kind: 'broken', error: 'its answer ended before "success"' }
}

async function firstLine(body: AsyncIterable<string>): Promise<string> {
  for await (const line of linesOf(body)) return line
  return ''
}

/**
 * @throws Unexpected when a line is longer than any line of Ollama, or when more lines arrive at once than Ollama writes
 * in a minute.
 */
async function* linesOf(body: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = ''
  for await (const piece of body) {
    rest += piece
    if (rest.length > maxLineLength && !piece.includes('\n'))
      throw new Unexpected('a line of its answer is too long')
    // Searches only the new piece: a line may arrive byte by byte.
    if (!piece.includes('\n')) continue
    const lines = rest.split('\n')
    if (lines.length > maxLinesAtOnce) throw new Unexpected('its answer has too many lines')
    rest = lines.pop() ?? ''
    yield* lines.filter((line) => line !== '' && line.length <= maxLineLength)
  }
  if (rest !== '') yield rest
}
