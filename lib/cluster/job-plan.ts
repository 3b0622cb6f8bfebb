import {
  isOver,
  type JobAction,
  type JobSpec,
  type JobState,
  type JobStatus,
  type NodeProgress,
} from '../fleet/job.ts'
import { modelsOf } from './job-order.ts'

/** By node name, in the order they were asked. */
export type JobNodes = Readonly<Record<string, NodeProgress>>

/** A job that is being carried out. */
export interface OpenJob {
  readonly id: string
  readonly spec: JobSpec
  readonly nodes: JobNodes
}

/** One node's part of a job. */
export interface JobPart {
  readonly id: string
  readonly node: string
}

const untouched: NodeProgress = { state: 'waiting', status: '', layers: {}, error: null, code: null }

/** Where a leader begins: what ended stays, everything else is asked for, once more where a leader before had begun. */
export function nodesToBegin({ nodes }: JobSpec, status: JobStatus | null): JobNodes {
  const known = Object.entries(status?.nodes ?? {}).map(([name, progress]): [string, NodeProgress] => [
    name,
    isOver(progress.state) ? progress : { ...progress, state: 'waiting' },
  ])
  return { ...Object.fromEntries(nodes.map((name) => [name, untouched])), ...Object.fromEntries(known) }
}

/** The state of a job follows from its nodes'; one whose place was taken does not count. */
export function stateOf(nodes: JobNodes): JobState {
  const states = Object.values(nodes).flatMap(({ state, replacedBy }) => (replacedBy ? [] : [state]))
  if (states.every((state) => state === 'waiting')) return 'waiting'
  if (!states.every(isOver)) return 'running'
  if (states.includes('failed')) return 'failed'
  return states.includes('cancelled') ? 'cancelled' : 'done'
}

/** Jobs that fill disks and links: so many at once, the others wait. */
const maxMoving = 4
const moving: ReadonlySet<JobAction> = new Set(['pull', 'push', 'create'])

/**
 * The parts to begin now. On one node and model jobs take turns in their order, also where the earlier one has to wait
 * for something else: a delete that follows a pull must not overtake it.
 *
 * @param jobs all that are not over, the oldest first
 */
export function planParts(jobs: readonly OpenJob[]): JobPart[] {
  const isMoving = ({ spec }: OpenJob) => moving.has(spec.action)
  const isBegun = ({ nodes }: OpenJob) => stateOf(nodes) === 'running'
  const places = jobs.filter(isMoving).filter(isBegun).length
  const first = new Set(
    jobs.filter((job) => isMoving(job) && !isBegun(job)).slice(0, Math.max(0, maxMoving - places)),
  )
  const claimed = new Set(jobs.flatMap((job) => nodesIn(job, 'running').flatMap((node) => claims(job, node))))
  const parts: JobPart[] = []
  for (const job of jobs) {
    const mayBegin = !isMoving(job) || isBegun(job) || first.has(job)
    for (const node of nodesIn(job, 'waiting')) {
      const wanted = claims(job, node)
      if (mayBegin && !wanted.some((claim) => claimed.has(claim))) parts.push({ id: job.id, node })
      for (const claim of wanted) claimed.add(claim)
    }
  }
  return parts
}

/** `nodes` with those that are not over put into the state given. */
export function withOpen(nodes: JobNodes, change: Partial<NodeProgress>): JobNodes {
  const changed = Object.entries(nodes).map(([name, progress]): [string, NodeProgress] => [
    name,
    isOver(progress.state) ? progress : { ...progress, ...change },
  ])
  return Object.fromEntries(changed)
}

/** The next spare takes the place of a node whose disk is full; without one `nodes` stay as they are. */
export function withSpare(job: OpenJob, full: string, mayServe: (node: string) => boolean): JobNodes {
  const { spec, nodes } = job
  const progress = nodes[full]
  const spare = spec.spares.find((name) => !Object.hasOwn(nodes, name) && mayServe(name))
  if (spare === undefined || progress === undefined) return nodes
  return { ...nodes, [full]: { ...progress, replacedBy: spare }, [spare]: untouched }
}

/** What the store is told of a job that is too large with all its layers: one value should stay below this. */
const maxBytes = 256 * 1024

/** The text of `R/state/jobs/<id>`. */
export function textOf(status: JobStatus): string {
  const text = JSON.stringify(status)
  if (text.length <= maxBytes) return text
  const bare = Object.entries(status.nodes).map(([name, progress]) => [name, { ...progress, layers: {} }])
  return JSON.stringify({ ...status, nodes: Object.fromEntries(bare) })
}

/** How long jobs are kept after their end, in milliseconds, and how many. */
const keptMs = 3_600_000
const maxKept = 100

/** The jobs not to keep any longer; `ended` are wall-clock dates in milliseconds. */
export function planForgetting(jobs: ReadonlyMap<string, number>, now: number): string[] {
  const latestFirst = [...jobs].sort(([, a], [, b]) => b - a)
  return latestFirst.flatMap(([id, ended], nth) => (nth >= maxKept || now - ended >= keptMs ? [id] : []))
}

function nodesIn({ nodes }: OpenJob, state: JobState): string[] {
  return Object.keys(nodes).filter((name) => nodes[name]?.state === state)
}

function claims({ spec }: OpenJob, node: string): string[] {
  return modelsOf(spec).map((model) => `${node} ${model}`)
}
