import {
  isOver,
  type JobAction,
  type JobSpec,
  type JobState,
  type JobStatus,
  type NodeProgress,
} from '../../fleet/job.ts'
import { modelsOf } from './node-task-request.ts'

/** Progress by node name, in the order in which the nodes were asked. */
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

/**
 * The progress with which a leader starts: ended nodes stay as they are, all others wait, also those that an earlier
 * leader asked.
 */
export function nodesToBegin({ nodes }: JobSpec, status: JobStatus | null): JobNodes {
  const known = Object.entries(status?.nodes ?? {}).map(([name, progress]): [string, NodeProgress] => [
    name,
    isOver(progress.state) ? progress : { ...progress, state: 'waiting' },
  ])
  return { ...Object.fromEntries(nodes.map((name) => [name, untouched])), ...Object.fromEntries(known) }
}

/** The state of a job, from the states of its nodes. A node that was replaced by a spare does not count. */
export function stateOf(nodes: JobNodes): JobState {
  const states = Object.values(nodes).flatMap(({ state, replacedBy }) => (replacedBy ? [] : [state]))
  if (states.every((state) => state === 'waiting')) return 'waiting'
  if (!states.every(isOver)) return 'running'
  if (states.includes('failed')) return 'failed'
  return states.includes('cancelled') ? 'cancelled' : 'done'
}

/** The limit for jobs that transfer models, which fill disks and links: the others wait. */
const maxMoving = 4
const moving: ReadonlySet<JobAction> = new Set(['pull', 'push', 'create'])

/**
 * The parts to begin now. Jobs with the same node and model take turns in their order, even if the earlier one still
 * waits for another reason: a delete that follows a pull must not overtake it.
 *
 * @param jobs every unfinished job, the oldest first
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

/** `nodes` with `change` applied to every unfinished one. */
export function withOpen(nodes: JobNodes, change: Partial<NodeProgress>): JobNodes {
  const changed = Object.entries(nodes).map(([name, progress]): [string, NodeProgress] => [
    name,
    isOver(progress.state) ? progress : { ...progress, ...change },
  ])
  return Object.fromEntries(changed)
}

/** Replaces a node with a full disk by the next spare. Without a spare `nodes` stay as they are. */
export function withSpare(job: OpenJob, full: string, mayServe: (node: string) => boolean): JobNodes {
  const { spec, nodes } = job
  const progress = nodes[full]
  const spare = spec.spares.find((name) => !Object.hasOwn(nodes, name) && mayServe(name))
  if (spare === undefined || progress === undefined) return nodes
  return { ...nodes, [full]: { ...progress, replacedBy: spare }, [spare]: untouched }
}

/** Characters of a job's status. A larger one is written without layers. */
const maxBytes = 256 * 1024

/** The text of `R/state/jobs/<id>`. */
export function textOf(status: JobStatus): string {
  const text = JSON.stringify(status)
  if (text.length <= maxBytes) return text
  const bare = Object.entries(status.nodes).map(([name, progress]) => [name, { ...progress, layers: {} }])
  return JSON.stringify({ ...status, nodes: Object.fromEntries(bare) })
}

/** Milliseconds for which a job is kept after its end, and how many ended jobs are kept. */
const keptMs = 3_600_000
const maxKept = 100

/** The ids of jobs to delete. `jobs`: the end of each, in milliseconds since 1970. */
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
