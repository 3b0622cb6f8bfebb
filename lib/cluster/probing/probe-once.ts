import type { NodeSpec } from '../../fleet/node.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Finding } from './node-health.ts'
import { Probe } from './probe.ts'

export type ProbeOnce = (spec: NodeSpec, timeoutMs: number, signal: AbortSignal) => Promise<Finding>

/** Probes a node once, over new connections. Never rejects; an aborted probe has the result `none`. */
export async function probeOnce(
  spec: NodeSpec,
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  if (signal.aborted) return { kind: 'none', reason: 'stopped' }
  const probe = new Probe({ spec, clock, connectMs: timeoutMs, hungUp() {} })
  try {
    const finding = await probe.reach(timeoutMs, signal)
    return signal.aborted ? { kind: 'none', reason: 'stopped' } : finding
  } finally {
    probe.destroy()
  }
}

/** Whether the node was reached: also when it was slow, or when its response was wrong. */
export function reaches({ kind }: Finding): boolean {
  return kind === 'answered' || kind === 'timeout' || kind === 'answer'
}
