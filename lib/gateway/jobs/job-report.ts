import type { JobState, JobView, NodeProgress } from '../../fleet/job.ts'

/** The progress of a job on one node, for callers and operators. */
export interface NodeReport {
  readonly state: JobState
  readonly status: string
  /** Bytes of all layers known so far. */
  readonly completed: number
  readonly total: number
  readonly error: string | null
}

/** Reports by node. Nodes of a job that no leader has read yet are waiting. */
export function nodeReports({ spec, status }: JobView): Readonly<Record<string, NodeReport>> {
  const unseen = spec.nodes.map((name) => [name, waiting] as const)
  const seen = Object.entries(status?.nodes ?? {}).map(([name, node]) => [name, reportOf(node)] as const)
  return Object.fromEntries([...unseen, ...seen])
}

const waiting: NodeReport = { state: 'waiting', status: '', completed: 0, total: 0, error: null }

function reportOf({ state, status, layers, error }: NodeProgress): NodeReport {
  let completed = 0
  let total = 0
  for (const layer of Object.values(layers)) {
    completed += Math.min(layer.completed, layer.total)
    total += layer.total
  }
  return { state, status, completed, total, error }
}

/** Why a finished job did not succeed. */
export interface JobFailure {
  /** The failed nodes and their errors. */
  readonly reason: string
  /** HTTP status. */
  readonly status: number
  /** It was cancelled: no error, and no reason to retry. */
  readonly isCancelled: boolean
}

/** Null when every node of the job, or its replacement, succeeded. */
export function failureOf({ spec, status }: JobView): JobFailure | null {
  if (!status || status.state === 'done') return null
  const nodes = Object.entries(status.nodes)
  const namesOf = (state: JobState) => nodes.filter(([, node]) => node.state === state).map(([name]) => name)
  const failed = Map.groupBy(namesOf('failed'), (name) => status.nodes[name]?.error ?? 'they did not say why')
  const parts = [
    ...[...failed].map(([error, names]) => `${spec.action} failed on ${names.join(', ')}: ${error}`),
    ...listed(`${spec.action} was cancelled on`, namesOf('cancelled')),
    ...listed('succeeded on', namesOf('done')),
  ]
  const reason = parts.length > 0 ? parts.join('; ') : `${spec.action} was ${status.state}`
  const isCancelled = status.state === 'cancelled'
  return { reason, status: isCancelled ? 409 : statusOf(nodes.map(([, node]) => node)), isCancelled }
}

function listed(what: string, names: readonly string[]): string[] {
  return names.length > 0 ? [`${what} ${names.join(', ')}`] : []
}

/** A node that refuses llamero is no matter of the caller's key. */
const unauthorized: ReadonlySet<number | null> = new Set([401, 403, 407])

/** The status of the nodes when they agree; 502 when none has one, or it is not for the caller. */
function statusOf(nodes: readonly NodeProgress[]): number {
  const codes = new Set(nodes.map(({ code }) => code))
  const [only] = codes
  if (codes.size === 1 && typeof only === 'number') return unauthorized.has(only) ? 502 : only
  return nodes.some(({ code }) => code !== null) ? 500 : 502
}
