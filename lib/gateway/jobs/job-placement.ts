import { matchesLabels } from '../../fleet/documents/field-schemas.ts'
import type { JobAction } from '../../fleet/job.ts'
import { type NodeView, preferWell } from '../../fleet/node.ts'
import type { NodeChoice } from '../../fleet/node-choice.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import { absent } from '../admission/model-routing.ts'
import { notFound, type RequestedJob } from './job-request.ts'

/** The nodes of a job, by name. */
export interface JobPlacement {
  readonly nodes: readonly string[]
  readonly spares: readonly string[]
}

/**
 * Places a job: on the nodes that it names, else by its wish, the copies of the model, and the policy.
 *
 * @param havingBlobs the nodes that hold the needed blobs; null when none are needed.
 * @throws ProxyError `model_not_found`, `bad_request` or `conflict` for named nodes, `no_place`; `no_config`,
 * `no_nodes` and `not_ready` when nothing is known yet.
 */
export function placeJob(
  job: RequestedJob,
  snapshot: Snapshot,
  havingBlobs: ReadonlySet<string> | null = null,
): JobPlacement {
  const { source, wish } = job
  if (snapshot.nodes.size === 0 || (source && !snapshot.models.has(source.canonical))) {
    const error = absent('', snapshot)
    throw error.code === 'model_not_found' ? notFound(job) : error
  }
  const able = [...snapshot.nodes.values()].filter(({ name }) => havingBlobs?.has(name) ?? true)
  return wish.nodes
    ? { nodes: named(job, wish.nodes, snapshot, havingBlobs), spares: [] }
    : chosen(job, able, snapshot)
}

function named(
  { action, source }: RequestedJob,
  names: readonly string[],
  { nodes }: Snapshot,
  havingBlobs: ReadonlySet<string> | null,
): string[] {
  for (const name of names) {
    const node = nodes.get(name)
    if (!node)
      throw new ProxyError('bad_request', {
        reason: `there is no node named ${JSON.stringify(name)}; see: llamero node list`,
      })
    if (!node.available)
      throw new ProxyError('conflict', {
        reason: `node ${name} is ${conditionOf(node)}, so it cannot ${action}; choose another node, or see: llamero node show ${name}`,
      })
    const lacks =
      source && !node.onDisk.has(source.canonical)
        ? `model '${source.written}'`
        : havingBlobs && !havingBlobs.has(name) && 'each of the files'
    if (lacks)
      throw new ProxyError('bad_request', {
        reason: `node ${name} does not have ${lacks}; choose another node`,
      })
  }
  return [...new Set(names)]
}

function conditionOf({ spec, departed }: NodeView): string {
  if (departed) return 'not registered any more'
  return spec.state === 'active' ? 'not probed yet' : spec.state
}

function chosen(job: RequestedJob, able: readonly NodeView[], snapshot: Snapshot): JobPlacement {
  const labelled = able.filter(({ spec }) => matchesLabels(job.wish.labels ?? {}, spec.labels))
  const placement = choosers[job.action](job, labelled, snapshot)
  if (placement.nodes.length === 0)
    throw noPlace(job, 'every suitable server is cordoned, off, not probed yet or has other labels')
  return { nodes: placement.nodes.map(nameOf), spares: placement.spares.map(nameOf) }
}

interface Choice {
  readonly nodes: readonly NodeView[]
  readonly spares: readonly NodeView[]
}
type Chooser = (job: RequestedJob, labelled: readonly NodeView[], snapshot: Snapshot) => Choice

/** Every copy. Jobs for nodes that are down wait for them; a departed node may never be back. */
const everyNodeWithModel: Chooser = ({ source }, labelled) => ({
  nodes: labelled.filter(
    (node) => node.spec.state !== 'off' && !node.departed && has(node, source?.canonical),
  ),
  spares: [],
})

const choosers: Readonly<Record<JobAction, Chooser>> = {
  copy: everyNodeWithModel,
  delete: everyNodeWithModel,
  /** All copies are pulled together, so that they stay equal; missing copies go where most disk is free. */
  pull: (job, labelled, { config }) => {
    const able = preferWell(labelled)
    const having = able.filter((node) => has(node, job.made?.canonical))
    const others = able
      .filter((node) => !having.includes(node) && matchesLabels(config.management.nodes, node.spec.labels))
      .sort((a, b) => bytesOnDisk(a) - bytesOnDisk(b))
    const byPolicy = having.length > 0 ? having.length : config.management.copies
    const count = countOf(job, byPolicy, having.length + others.length)
    return split([...having, ...others], Math.max(count, having.length))
  },
  create: (job, labelled) => {
    const able = preferWell(labelled.filter((node) => has(node, job.source?.canonical)))
    return split(able, countOf(job, 'all', able.length))
  },
  push: ({ source }, labelled) =>
    split(preferWell(labelled.filter((node) => has(node, source?.canonical))), 1),
  /** Nodes that have the model in memory first; then those with the least used memory. */
  load: (job, labelled, { config }) => {
    const model = job.source?.canonical ?? ''
    const able = preferWell(labelled.filter((node) => has(node, model))).sort(
      (a, b) => isLoaded(b, model) - isLoaded(a, model) || bytesInMemory(a) - bytesInMemory(b),
    )
    return split(able, countOf(job, config.management.copies, able.length))
  },
  /** Cordoned nodes too. A node that is down has probably lost its memory. */
  unload: ({ source }, labelled) => {
    const having = labelled.filter((node) => node.resident.has(source?.canonical ?? ''))
    const well = having.filter(({ health }) => health !== 'down')
    const nodes = well.length > 0 ? well : having
    if (nodes.length > 0) return { nodes, spares: [] }
    throw new ProxyError('conflict', {
      reason: `no node has model '${source?.written}' in its memory; see: llamero model ps`,
    })
  },
}

/** The number of nodes: exactly as many as the caller wants; of the policy's number, as many as there are. */
function countOf(job: RequestedJob, byPolicy: NonNullable<NodeChoice['copies']>, able: number): number {
  const { copies } = job.wish
  if (copies === 'all') return able
  if (copies === undefined) return byPolicy === 'all' ? able : Math.min(byPolicy, able)
  if (copies > able) throw noPlace(job, `${copies} copies are requested, and ${able} servers could take one`)
  return copies
}

function split(nodes: readonly NodeView[], count: number): Choice {
  return { nodes: nodes.slice(0, count), spares: nodes.slice(count) }
}

function has(node: NodeView, model: string | undefined): boolean {
  return model === undefined || node.onDisk.has(model)
}

function isLoaded(node: NodeView, model: string): number {
  return Number(node.resident.has(model))
}

function bytesOnDisk({ status }: NodeView): number {
  return (status?.models ?? []).reduce((sum, { size }) => sum + size, 0)
}

function bytesInMemory({ status }: NodeView): number {
  return (status?.loaded ?? []).reduce((sum, { size }) => sum + size, 0)
}

function nameOf({ name }: NodeView): string {
  return name
}

function noPlace({ action, source, made }: RequestedJob, reason: string): ProxyError {
  const model = (source ?? made)?.written ?? ''
  return new ProxyError('no_place', { action, model, reason })
}
