import type { NodeHealth } from '../fleet/node.ts'

/** What one probe found out. */
export type Finding =
  | { readonly good: true }
  | { readonly good: false; readonly reason: string; readonly refused: boolean }

/** A node's health and what counts towards changing it. */
export interface Vitals {
  /** Null until enough is known. */
  readonly health: NodeHealth | null
  /** Why `health` is what it is, in words. */
  readonly reason: string
  /** Probes in a row, of one kind. */
  readonly good: number
  readonly bad: number
  /** When the node refused the connection in the last probe (monotonic ms), else null. */
  readonly refusedAt: number | null
}

export const unknownVitals: Vitals = { health: null, reason: '', good: 0, bad: 0, refusedAt: null }

/** A second refusal within this many milliseconds of the first is proof: nothing listens there. */
const confirmWithinMs = 250

interface Rules {
  /** Monotonic milliseconds at which the probe ended. */
  readonly at: number
  /** Good probes in a row before a node that was down is up. */
  readonly rise: number
  /** Bad probes in a row before a node is down. */
  readonly fall: number
}

/**
 * up ──`fall` bad probes, or two refusals at once──> down ──`rise` good probes──> up
 * A node nobody knows is up after its first good probe: there is no bad history to outweigh.
 */
export function examine(vitals: Vitals, finding: Finding, { at, rise, fall }: Rules): Vitals {
  if (finding.good) {
    const next = { ...vitals, good: vitals.good + 1, bad: 0, refusedAt: null }
    if (vitals.health === null) return { ...next, health: 'up', reason: 'the first probe was answered' }
    if (vitals.health === 'up' || next.good < rise) return next
    return { ...next, health: 'up', reason: `${inARow(next.good)} answered` }
  }
  const next = { ...vitals, good: 0, bad: vitals.bad + 1, refusedAt: finding.refused ? at : null }
  if (vitals.health === 'down') return next
  if (finding.refused && vitals.refusedAt !== null && at - vitals.refusedAt <= confirmWithinMs)
    return { ...next, health: 'down', reason: `${finding.reason}, confirmed by a second try` }
  if (next.bad < fall) return next
  return { ...next, health: 'down', reason: `${inARow(next.bad)} failed: ${finding.reason}` }
}

/** Whether the next probe should come at once, to confirm a refusal. */
export function wantsConfirmation({ health, refusedAt }: Vitals): boolean {
  return health !== 'down' && refusedAt !== null
}

function inARow(count: number): string {
  return count === 1 ? 'a probe' : `${count} probes in a row`
}
