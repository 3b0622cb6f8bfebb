import { Agent, buildConnector, request } from 'undici'
import type { InventoryModel, LoadedModel, NodeSpec } from '../../fleet/node.ts'
import type { Clock } from '../../shared/clock.ts'
import { MergedBytes } from '../../shared/merged-bytes.ts'
import { isConnectError } from '../../shared/net/connect-error.ts'
import { viaLlamero } from '../../shared/net/via.ts'
import { LatenessWatch } from '../../shared/process/lateness-watch.ts'
import { ownFaultOf } from '../../shared/process/own-fault.ts'
import { readLoaded, readTags, readVersion } from './inventory.ts'
import { abortOf, codeOf, connectionTo, reasonOf, Unexpected } from './node-connection.ts'
import type { Finding } from './node-health.ts'

/** The result of one probe; null for each question that was not answered. */
export interface ProbeResult {
  readonly finding: Finding
  readonly version: string | null
  readonly models: readonly InventoryModel[] | null
  readonly loaded: readonly LoadedModel[] | null
}

/** Limits of the responses, in bytes: 10,000 models have about 6 MB. */
const maxBytes = { '/api/version': 64 * 1024, '/api/tags': 8 * 1024 * 1024, '/api/ps': 1024 * 1024 }
type Path = keyof typeof maxBytes
/**
 * Checks of the timers within one probe, and the share of its time by which they may be late before a failure is this
 * instance's own.
 */
const ticks = 4
const lateShare = 0.5
/** Longer than any probe interval, so that a connection that closes was closed by the node. */
const keepAliveMs = 1_200_000

interface ProbeOptions {
  readonly spec: NodeSpec
  readonly clock: Clock
  /** Milliseconds a connection may take to come up. */
  readonly connectMs: number
  /** Called when the node closed a connection. */
  readonly hungUp: () => void
}

interface Answer<T> {
  readonly value: T
  /** Whether the response came before the timeout. */
  readonly isTimely: boolean
}
type Read<T> = (body: Buffer) => Promise<T | null> | T | null
type Ask = <T>(path: Path, read: Read<T>) => Promise<Answer<T>>

/** Probes one node over connections of its own, which carry no requests. */
export class Probe {
  readonly #options: ProbeOptions
  readonly #agent: Agent
  /** Connections that are being established. */
  #connecting = 0
  /** Connections that were established so far. */
  #connected = 0

  constructor(options: ProbeOptions) {
    this.#options = options
    const { spec, connectMs, hungUp } = options
    const { connect, ...connection } = connectionTo(spec, connectMs)
    const connector = typeof connect === 'function' ? connect : buildConnector(connect)
    this.#agent = new Agent({
      ...connection,
      connect: (options, callback) => {
        this.#connecting++
        connector(options, (...[error, socket]) => {
          this.#connecting--
          if (error) return callback(error, null)
          this.#connected++
          callback(null, socket)
        })
      },
      connections: 3,
      keepAliveTimeout: keepAliveMs,
    })
    this.#agent.on('disconnect', (_origin, _targets, error) => {
      if (closedByPeer.has(error.code)) hungUp()
    })
  }

  /**
   * Asks for version, models on disk and models in memory at the same time. Never throws. Only the first two decide on
   * health: `/api/ps` stalls for seconds while an unload waits for memory, since Ollama's scheduler holds its lock
   * meanwhile (server/sched.go).
   *
   * @param patienceMs how long to wait for the responses of a slow node: its models would otherwise stay unknown. The
   *   finding is a timeout all the same.
   */
  async run(timeoutMs: number, signal: AbortSignal, patienceMs = timeoutMs): Promise<ProbeResult> {
    const { answers, isLate } = await this.#within({ timeoutMs, patienceMs }, signal, (ask) => [
      ask('/api/version', readVersion),
      ask('/api/tags', readTags),
      ask('/api/ps', readLoaded),
    ])
    const [version, models, loaded] = answers
    return {
      finding: findingOf([version, models], isLate, timeoutMs),
      version: answered(version),
      models: answered(models),
      loaded: answered(loaded),
    }
  }

  /** Whether the node can be reached: asks for its version alone. Never throws. */
  async reach(timeoutMs: number, signal: AbortSignal): Promise<Finding> {
    const limits = { timeoutMs, patienceMs: timeoutMs }
    const { answers, isLate } = await this.#within(limits, signal, (ask) => [
      ask('/api/version', readVersion),
    ])
    return findingOf(answers, isLate, timeoutMs)
  }

  /** Sends all requests at the same time. After the timeout only the first two responses are waited for. */
  async #within<T extends readonly Promise<unknown>[]>(
    { timeoutMs, patienceMs }: { readonly timeoutMs: number; readonly patienceMs: number },
    signal: AbortSignal,
    questions: (ask: Ask) => readonly [...T],
  ) {
    const asking = new AbortController()
    const stop = () => asking.abort(signal.reason)
    signal.addEventListener('abort', stop)
    const { clock } = this.#options
    const lateness = new LatenessWatch(clock, timeoutMs / ticks)
    const connected = this.#connected
    let isOver = false
    let isLate = false
    const timeOut = () => {
      isOver = true
      isLate = lateness.lateMs > timeoutMs * lateShare
      lateness.stop()
      const isConnecting = this.#connecting > 0 && this.#connected === connected
      const timedOut = new TimedOut(isConnecting ? 'unreachable' : 'timeout', timeoutMs)
      const giveUp = () => asking.abort(timedOut)
      if (isConnecting || patienceMs <= timeoutMs) return giveUp()
      cancel = clock.after(patienceMs - timeoutMs, giveUp)
      void Promise.allSettled(asked.slice(0, 2)).then(giveUp)
    }
    let cancel = clock.after(timeoutMs, timeOut)
    const ask: Ask = async (path, read) => {
      const value = await Promise.race([this.#ask(path, read, asking.signal), abortOf(asking.signal)])
      return { value, isTimely: !isOver }
    }
    const asked = questions(ask)
    const answers = await Promise.allSettled(asked)
    cancel()
    lateness.stop()
    isLate ||= !isOver && lateness.lateMs > timeoutMs * lateShare
    signal.removeEventListener('abort', stop) // it lives as long as the prober: listeners must not pile up
    return { answers, isLate }
  }

  /** Closes every connection, also those in use. */
  destroy(): void {
    void this.#agent.destroy()
  }

  async #ask<T>(path: Path, read: Read<T>, signal: AbortSignal): Promise<T> {
    const { url, headers } = this.#options.spec
    const response = await request(url + path, { dispatcher: this.#agent, headers, signal })
    if (String(response.headers['via'] ?? '').includes(viaLlamero)) {
      await response.body.dump()
      throw new Unexpected('llamero answers at this URL: a node must be an Ollama server')
    }
    if (response.statusCode !== 200) {
      await response.body.dump()
      throw new Unexpected(`answered ${response.statusCode} to GET ${path}`)
    }
    const value = await read(await bytesOf(response.body, path))
    if (value === null) throw new Unexpected(`its answer to GET ${path} is not Ollama's`)
    return value
  }
}

/** The whole body. @throws Unexpected when it is larger than the limit of the path. */
async function bytesOf(body: AsyncIterable<Buffer>, path: Path): Promise<Buffer> {
  const merged = new MergedBytes()
  for await (const piece of body) {
    merged.add(piece)
    if (merged.size > maxBytes[path])
      throw new Unexpected(`its answer to GET ${path} is larger than ${maxBytes[path]} bytes`)
  }
  return merged.take()
}

const closedByPeer: ReadonlySet<string> = new Set(['UND_ERR_SOCKET', 'ECONNRESET'])

/** No response, or not even a connection, within the timeout. */
class TimedOut extends Error {
  readonly kind: 'timeout' | 'unreachable'

  constructor(kind: 'timeout' | 'unreachable', timeoutMs: number) {
    super(`no ${kind === 'timeout' ? 'answer' : 'connection'} within ${timeoutMs} ms`)
    this.kind = kind
  }
}

/** Codes of an unreachable host. All but the last concern a connection that was established before. */
const unreachable: ReadonlySet<string> = new Set([
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
])

/** The finding from the responses that decide on health. @param isLate see `failureOf` */
function findingOf(
  answers: readonly PromiseSettledResult<Answer<unknown>>[],
  isLate: boolean,
  timeoutMs: number,
): Finding {
  for (const answer of answers)
    if (answer.status === 'rejected') return failureOf(answer.reason, isLate)
    else if (!answer.value.isTimely) return failureOf(new TimedOut('timeout', timeoutMs), isLate)
  return { kind: 'answered' }
}

/** @param isLate whether this process was too late to see a response. */
function failureOf(error: unknown, isLate: boolean): Finding {
  const code = codeOf(error) ?? ''
  const reason = reasonOf(error)
  if (ownFaultOf(error)) return { kind: 'none', reason }
  const isTimedOut = error instanceof TimedOut || code === 'UND_ERR_CONNECT_TIMEOUT'
  if (isTimedOut && isLate) return { kind: 'none', reason: 'this instance itself was late' }
  if (error instanceof TimedOut) return { kind: error.kind, reason }
  if (code === 'ECONNREFUSED') return { kind: 'refused', reason }
  return { kind: isConnectError(error) || unreachable.has(code) ? 'unreachable' : 'answer', reason }
}

function answered<T>(answer: PromiseSettledResult<Answer<T>>): T | null {
  return answer.status === 'fulfilled' ? answer.value.value : null
}
