import type { Random } from '../../lib/shared/random.ts'
import type { Faults } from '../../lib/simulation/http/faults.ts'
import type { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'

const hour = 3_600_000
const killed = 'llama-server process has terminated: signal: killed'
/** Requests only: probes are GET. */
const match = { method: 'POST' }

/** What befalls the next few requests of a node, `n` chunks into their answers; the node is as well as before. */
const requestFaults: readonly ((control: Faults, n: number, times: number) => void)[] = [
  (control, n, times) => control.resetAfter(n, { match, times }),
  (control, n, times) => control.cutInChunk(n, { match, times }),
  (control, n, times) => control.truncate(n, { match, times }),
  (control, n, times) => control.stallAfter(n, hour, { match, times }),
  (control, _, times) => control.dropTerminator({ match, times }),
]

/**
 * What befalls a node as a whole for `ms` milliseconds; resolves when it is over. After a runner died, or while the node
 * says that it is busy, it gets no requests for up to half a minute.
 */
const nodeFaults: readonly ((control: Faults, ms: number) => Promise<void>)[] = [
  (control, ms) => control.restart({ downMs: ms }),
  async (control, ms) => {
    await control.refuse()
    await pause(ms)
    await control.accept()
  },
  async (control, ms) => {
    control.blackhole()
    await pause(ms)
    control.clear()
  },
  async (control, ms) => {
    control.crashRunners()
    await pause(ms)
  },
  async (control, ms) => {
    control.errorLine(3, killed, { match, times: 1 })
    await pause(ms)
  },
  async (control, ms) => {
    control.status(503, undefined, {}, { match, times: 2 })
    await pause(ms)
  },
]

interface StormOptions {
  readonly nodes: readonly SimulatedNode[]
  /** The first so many are never down as a whole: healthy nodes with room remain, as the promise presumes. */
  readonly standing: number
  readonly random: Random
  /** From one fault to the next, on average. */
  readonly everyMs: number
}

/** Throws faults at the nodes, at random, until `signal` aborts; resolves when every node is well again. */
export async function storm(
  { nodes, standing, random, everyMs }: StormOptions,
  signal: AbortSignal,
): Promise<number> {
  const down = new Map<SimulatedNode, Promise<void>>()
  let thrown = 0
  while (!signal.aborted) {
    await pause(everyMs * (0.5 + random()))
    const mortal = nodes.slice(standing).filter((node) => !down.has(node))
    const victim = pick(mortal, random)
    thrown++
    if (victim && random() < 0.4) {
      const over = pick(nodeFaults, random)?.(victim.control, 500 + 3500 * random())
      down.set(
        victim,
        Promise.resolve(over).then(() => void down.delete(victim)),
      )
    } else {
      const node = pick(
        nodes.filter((each) => !down.has(each)),
        random,
      )
      if (node)
        pick(requestFaults, random)?.(node.control, Math.floor(20 * random()), 1 + Math.floor(3 * random()))
    }
  }
  await Promise.all(down.values())
  for (const { control } of nodes) control.clear()
  return thrown
}

function pick<T>(all: readonly T[], random: Random): T | undefined {
  return all[Math.floor(random() * all.length)]
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
