import type { Clock } from '../shared/clock.ts'
import { formatDuration } from '../shared/duration.ts'
import type { NodeAnswer } from './answers.ts'
import { exits, Failure } from './failure.ts'
import { count } from './format.ts'

/** Milliseconds between two looks at the node. */
const lookEveryMs = 1000

/**
 * How long a node must be seen idle before it counts as drained: an instance takes up to 1 s to learn of the cordon and
 * tells its load once a second (DESIGN §5, §10), so a single look at zero proves nothing.
 */
const quietMs = 3000

interface DrainOptions {
  readonly name: string
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly timeoutMs: number
  readonly look: () => Promise<NodeAnswer>
  /** Told what is waited for, whenever that changes. */
  readonly progress: (line: string) => void
}

/**
 * Waits until no instance runs a request on a cordoned node; resolves to the milliseconds it took.
 * @throws Failure (timed out) when it does not become idle in time; the node stays cordoned.
 */
export async function waitUntilIdle(options: DrainOptions): Promise<number> {
  const { name, clock, signal, timeoutMs, progress } = options
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
      throw new Failure(
        exits.timedOut,
        `${seen.line} after ${formatDuration(timeoutMs)}; it stays cordoned`,
        `llamero node drain ${name} (waits again), or llamero node uncordon ${name}`,
      )
    await clock.sleep(Math.min(lookEveryMs, left), signal)
  }
}

interface Seen {
  readonly idle: boolean
  readonly line: string
}

/** One look. An instance that cannot be reached for a moment is no reason to give up: the requests still run. */
async function observe({ name, look }: DrainOptions): Promise<Seen> {
  try {
    const node = await look()
    return { idle: node.state !== 'active' && node.running === 0, line: waitingFor(node) }
  } catch (error) {
    if (!(error instanceof Failure) || error.exit !== exits.unavailable) throw error
    return { idle: false, line: `${name}: ${error.message}` }
  }
}

function waitingFor({ name, state, running, running_by_instance }: NodeAnswer): string {
  if (state === 'active') return `${name}: the cordon is not in force yet`
  if (running === 0) return `${name}: no requests running; waiting until every instance has seen the cordon`
  const instances = Object.keys(running_by_instance)
    .filter((id) => running_by_instance[id])
    .sort()
  return `${name}: ${count(running, 'request')} running on instance${instances.length === 1 ? '' : 's'} ${instances.join(', ')}`
}
