import type { InstanceAnswer } from '../../api/instances.ts'
import type { NodeAnswer } from '../../api/nodes.ts'
import type { Clock } from '../../shared/clock.ts'
import { formatDuration } from '../../shared/duration.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { count } from '../terminal/format.ts'

/** Milliseconds between two requests for the state. */
const lookEveryMs = 1000

/**
 * How long a node must be seen idle before it counts as drained: an instance takes up to 1 s to learn of the cordon and
 * publishes its load once a second (docs/architecture.md#keys-in-the-store), so a single zero proves nothing.
 */
const quietMs = 3000

/** The state of a drain at one moment. */
export interface DrainState {
  readonly idle: boolean
  /** What the drain still waits for. */
  readonly line: string
}

interface DrainOptions {
  readonly name: string
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly timeoutMs: number
  readonly look: () => Promise<DrainState>
  /** Called with what the drain waits for, on every change. */
  readonly progress: (line: string) => void
  /** For the failure after the time limit: the state it stays in, and what to try. */
  readonly late: { readonly state: string; readonly hint: string }
}

/**
 * Waits until a cordoned node or a draining instance is idle; resolves to the milliseconds it took.
 * @throws Failure (timed out) after the time limit.
 */
export async function waitUntilIdle(options: DrainOptions): Promise<number> {
  const { clock, signal, timeoutMs, progress, late } = options
  const started = clock.now()
  let idleSince: number | null = null
  let shown = ''
  for (;;) {
    const seen = await observe(options)
    if (!seen.idle) idleSince = null
    else if (idleSince === null) idleSince = clock.now()
    if (idleSince !== null && clock.now() - idleSince >= quietMs) return clock.now() - started

    if (seen.line !== shown) progress(seen.line)
    shown = seen.line

    const left = timeoutMs - (clock.now() - started)
    if (left <= 0)
      throw new CliFailure(
        exits.timedOut,
        `${seen.line} after ${formatDuration(timeoutMs)}; it stays ${late.state}`,
        late.hint,
      )
    await clock.sleep(Math.min(lookEveryMs, left), signal)
  }
}

/** The current state. An instance that is out of reach for a moment ends nothing: the requests still run. */
async function observe({ name, look }: DrainOptions): Promise<DrainState> {
  try {
    return await look()
  } catch (error) {
    if (!(error instanceof CliFailure) || error.exit !== exits.unavailable) throw error
    return { idle: false, line: `${name}: ${error.message}` }
  }
}

/** The state of a node that is being drained. */
export function seenNode(node: NodeAnswer): DrainState {
  return { idle: node.state !== 'active' && node.running === 0, line: waitingForNode(node) }
}

function waitingForNode({ name, state, running, running_by_instance }: NodeAnswer): string {
  if (state === 'active') return `${name}: the cordon is not in force yet`
  if (running === 0) return `${name}: no requests running; waiting until every instance has seen the cordon`
  const instances = Object.keys(running_by_instance)
    .filter((id) => running_by_instance[id])
    .sort()
  return `${name}: ${count(running, 'request')} running on instance${instances.length === 1 ? '' : 's'} ${instances.join(', ')}`
}

/** The state of an instance that is being drained. */
export function seenInstance({ id, draining, running, queued }: InstanceAnswer): DrainState {
  const busy = running + queued
  const rest = busy === 0 ? 'none left; waiting for load balancers' : `${running} running, ${queued} queued`
  return { idle: draining && busy === 0, line: `${id}: requests: ${rest}` }
}
