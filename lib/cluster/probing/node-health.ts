import type { NodeHealth, ProbeFault } from '../../fleet/node.ts'

/** The result of one probe. `none`: the probe failed because of this instance, which says nothing about the node. */
export type Finding =
  | { readonly kind: 'answered' }
  | { readonly kind: ProbeFault; readonly reason: string }
  | { readonly kind: 'none'; readonly reason: string }

/** A node's health, and the counters that change it. */
export interface Vitals {
  /** Null until enough is known. */
  readonly health: NodeHealth | null
  /** Why `health` is what it is, in words. */
  readonly reason: string
  /** The fault behind `health`; null when it is `up` or not known. */
  readonly fault: ProbeFault | null
  /** Probes in a row: answered; answered or timed out; not answered; failed by more than a timeout. */
  readonly good: number
  readonly present: number
  readonly bad: number
  readonly dead: number
  /** When the first of the `dead` probes ended (monotonic ms); null while there is none. */
  readonly deadSince: number | null
  /** The fault of the last `dead` probe; null while there is none. */
  readonly deadBy: ProbeFault | null
  /** When the node refused the connection in the last probe (monotonic ms), else null. */
  readonly refusedAt: number | null
  /**
   * Whether the last probe timed out and the one before did not fail: the next probe, over new connections, tells more.
   */
  readonly isFirstTimeout: boolean
}

export const unknownVitals: Vitals = {
  health: null,
  reason: '',
  fault: null,
  good: 0,
  present: 0,
  bad: 0,
  dead: 0,
  deadSince: null,
  deadBy: null,
  refusedAt: null,
  isFirstTimeout: false,
}

/** A second refusal within this many milliseconds of the first proves that no process listens there. */
const confirmWithinMs = 250

interface Rules {
  /** Monotonic milliseconds at which the probe ended. */
  readonly at: number
  /** Good probes in a row before the health of a node improves. */
  readonly rise: number
  /** Bad probes in a row before the health of a node gets worse. */
  readonly fall: number
  /**
   * Since when requests of any instance were answered by the node: `probe`, since the last probe began; `streak`, since
   * the node began to fail its probes by more than a timeout. The first implies the second.
   */
  readonly attested: 'probe' | 'streak' | null
}

/**
 *   up ──`fall` probes not answered──────────────────────> slow
 *   up, slow ──`fall` probes failed, or two refusals at once──> down     (unless requests are answered there: slow)
 *   down ──`rise` probes timed out: it takes connections──> slow
 *   slow, down ──`rise` probes answered──────────────────> up
 *
 * A timeout makes a node slow, never down: a busy node takes seconds for its status routes. Answered requests outweigh a
 * timeout. A node not known before is up after its first good probe, since there is no bad history to outweigh.
 */
export function examine(vitals: Vitals, finding: Finding, rules: Rules): Vitals {
  switch (finding.kind) {
    case 'none':
      return vitals
    case 'answered':
      return answered(vitals, 'answered', rules)
    case 'timeout':
      if (rules.attested === 'probe') return answered(vitals, 'answered, or requests in between', rules)
      return timedOut(vitals, finding.reason, rules)
    default:
      return failed(vitals, finding.kind, finding.reason, rules)
  }
}

/** Whether the next probe should come at once: to confirm a refusal, or to tell a slow node from a dead one. */
export function wantsConfirmation({ health, refusedAt, isFirstTimeout }: Vitals): boolean {
  return (health !== 'down' && refusedAt !== null) || isFirstTimeout
}

/**
 * Whether this instance cannot connect to the node. The fault may then be in this instance's network, while a wrong
 * answer proves that the network works.
 */
export function isUnreached({ health, fault, deadBy }: Vitals): boolean {
  const failedBy = health === 'down' ? fault : deadBy
  return failedBy === 'refused' || failedBy === 'unreachable'
}

const alive = { bad: 0, dead: 0, deadSince: null, deadBy: null, refusedAt: null, isFirstTimeout: false }

function answered(vitals: Vitals, how: string, { rise }: Rules): Vitals {
  const next = { ...vitals, ...alive, good: vitals.good + 1, present: vitals.present + 1 }
  if (vitals.health === null) return { ...next, ...up('the first probe was answered') }
  if (vitals.health === 'up' || next.good < rise) return next
  return { ...next, ...up(`${inARow(next.good)} ${how}`) }
}

function timedOut(vitals: Vitals, reason: string, { rise, fall }: Rules): Vitals {
  const bad = vitals.bad + 1
  const next = { ...vitals, ...alive, bad, good: 0, present: vitals.present + 1, isFirstTimeout: bad === 1 }
  const isEnough = vitals.health === 'down' ? next.present >= rise : bad >= fall && vitals.health !== 'slow'
  return isEnough ? { ...next, ...slow('timeout', `${inARow(bad)} timed out: ${reason}`) } : next
}

function failed(vitals: Vitals, fault: ProbeFault, reason: string, { at, fall, attested }: Rules): Vitals {
  const next = {
    ...vitals,
    good: 0,
    present: 0,
    bad: vitals.bad + 1,
    // Since no new connection comes up, the connection over which the first probe timed out was dead.
    dead: vitals.dead + (vitals.isFirstTimeout ? 2 : 1),
    deadSince: vitals.deadSince ?? at,
    deadBy: fault,
    refusedAt: fault === 'refused' ? at : null,
    isFirstTimeout: false,
  }
  const isConfirmed =
    fault === 'refused' && vitals.refusedAt !== null && at - vitals.refusedAt <= confirmWithinMs
  const isDown = vitals.health === 'down' || isConfirmed || next.dead >= fall
  if (isDown && attested !== null) {
    if (vitals.health === 'slow') return next
    return { ...next, ...slow(fault, `${reason}, but the node answers requests`) }
  }
  if (vitals.health === 'down') return next
  if (isDown) {
    const how = isConfirmed
      ? `${reason}, confirmed by a second try`
      : `${inARow(next.dead)} failed: ${reason}`
    return { ...next, health: 'down', fault, reason: how }
  }
  const isSlow = next.bad >= fall && vitals.health !== 'slow'
  return isSlow ? { ...next, ...slow(fault, `${inARow(next.bad)} failed: ${reason}`) } : next
}

function up(reason: string): Pick<Vitals, 'health' | 'reason' | 'fault'> {
  return { health: 'up', reason, fault: null }
}

function slow(fault: ProbeFault, reason: string): Pick<Vitals, 'health' | 'reason' | 'fault'> {
  return { health: 'slow', reason, fault }
}

function inARow(count: number): string {
  return count === 1 ? 'a probe' : `${count} probes in a row`
}
