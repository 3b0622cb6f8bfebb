import type { StatusAnswer, statusEndpoints } from '../../api/status.ts'
import { operatorFolders } from '../../cluster/config/stored-documents.ts'
import type { ModelView } from '../../fleet/models/fleet-models.ts'
import type { NodeView } from '../../fleet/node.ts'
import { FleetWarnings } from '../../fleet/warnings.ts'
import { loopbackWarning } from '../../gateway/http/loopback-warning.ts'
import { newestOf } from '../../store/store.ts'
import { version } from '../../version.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import { clusterSource, remedyOf, silentSeconds } from '../store-knowledge.ts'

/** Terms shown, of the hundred that the store keeps. */
const shownTerms = 5
/** Departed nodes shown, and models of each. */
const shownDeparted = 10
/** Models with differing copies shown, and nodes of each. */
const shownDiffering = 10
const shownWarned = 20
const shownRejected = 50
/** Instances shown that ended without a clean stop. */
const shownMissing = 10
/** Nodes shown that requests avoid. */
const shownUnwell = 10

/** The cluster at a glance. Only the condition of the store takes a call; everything else is in memory. */
export function statusHandlers(admin: AdminContext): Handlers<typeof statusEndpoints> {
  const startedAt = admin.clock.now()
  const fleetWarnings = new FleetWarnings()
  const readStatus = async (): Promise<StatusAnswer> => {
    const look = await lookAtStore(admin)
    const { cluster, clock, snapshot, store } = admin
    const current = snapshot.get()
    const { revision, nodes, models, loaded } = current
    const warning = loopbackWarning(current, admin.loopback)
    const isAnswering = cluster.following && look.round_trip_ms !== null
    const known = clusterSource(admin)
    const source = known === 'store' && !isAnswering ? 'memory' : known
    const documents = operatorFolders.flatMap((folder) => [...cluster.view.documents(folder).values()])
    const rejected = cluster.rejected()
    return {
      cluster: admin.clusterName,
      version,
      instance: {
        id: admin.instance,
        role: cluster.isLeader() ? 'leader' : 'standby',
        uptime_seconds: Math.round((clock.now() - startedAt) / 1000),
        draining: admin.isDraining(),
        // The instance that reaches nodes while this one reaches none.
        cut_off: cluster.cutOff?.peer ?? null,
      },
      source,
      ...leaders(admin, source === 'store'),
      terms: lastTerms(admin),
      store: {
        kind: store.kind,
        ...conditionOf(admin, isAnswering),
        last_contact_seconds: silentSeconds(admin),
        ...look,
      },
      advice: cluster.advice,
      config: {
        source: cluster.configSource,
        suspect: cluster.suspect,
        revision,
        // An instance with a revision this high has checked every change of an operator.
        stored: String(newestOf(documents)),
        active: cluster.view.instances().map(({ id, revision }) => ({ id, revision })),
        rejected: rejected
          .slice(0, shownRejected)
          .map(({ key, verdict }) => ({ key, errors: verdict.errors })),
        rejected_total: rejected.length,
        warned: warned(admin),
      },
      nodes: {
        ...countNodes([...nodes.values()]),
        rejected: rejected.filter(({ key }) => admin.keys.parse(key)?.folder === 'nodes').length,
        ...unwell([...nodes.values()], admin),
        departed_first: firstDeparted([...nodes.values()]),
      },
      models: {
        on_disk: models.size,
        loaded: new Set(loaded.map(({ model }) => model.name)).size,
        ...differing([...models.values()]),
      },
      instances: cluster.view.instances().length,
      missing: cluster.view
        .missing()
        .filter(({ how }) => how === 'lost')
        .slice(0, shownMissing),
      requests: requests(admin, source === 'store'),
      warnings: [...(warning === null ? [] : [warning]), ...(await fleetWarnings.of(nodes))],
    }
  }
  return { readStatus }
}

/** Documents in force with warnings, other than nodes. */
function warned({ cluster: { view }, keys }: AdminContext) {
  const places = [
    keys.config,
    ...[...view.documents('routes').keys()].map((name) => keys.route(name)),
    ...[...view.documents('keys').keys()].map((id) => keys.apiKey(id)),
  ]
  return places
    .map((key) => ({ key, warnings: view.warnings(key) }))
    .filter(({ warnings }) => warnings.length > 0)
    .slice(0, shownWarned)
}

/** Models of which some nodes have an older copy than others: how many, and the first by name. */
function differing(models: readonly ModelView[]) {
  const differing = models.filter(({ olderOn }) => olderOn.length > 0)
  const first = differing.sort((a, b) => (a.name < b.name ? -1 : 1)).slice(0, shownDiffering)
  return {
    differing: differing.length,
    differing_first: first.map(({ name, olderOn }) => ({ name, older_on: olderOn.slice(0, shownDiffering) })),
  }
}

/** The last terms of leaders, the newest first. */
function lastTerms({ cluster }: AdminContext) {
  const terms = [...cluster.view.terms()].slice(0, shownTerms)
  return terms.map(([fence, term]) => ({ fence: String(fence), ...term }))
}

/** While the store does not answer, only an instance that leads knows the leader. */
function leaders(
  { cluster }: AdminContext,
  isCurrent: boolean,
): Pick<StatusAnswer, 'leader' | 'last_leader'> {
  const id = cluster.view.leader()
  const known = id === null ? null : { id, fence: String(cluster.view.leaderFence() ?? 0n) }
  return isCurrent || cluster.isLeader()
    ? { leader: known, last_leader: null }
    : { leader: null, last_leader: known }
}

/** The state of the store: `ok`, `read-only`, `refused` (not even reading is allowed) or `unreachable`. */
function conditionOf(
  { store }: AdminContext,
  isAnswering: boolean,
): Pick<StatusAnswer['store'], 'ok' | 'state' | 'problem' | 'remedy'> {
  const trouble = store.condition?.trouble ?? null
  const answering = isAnswering ? 'ok' : 'unreachable'
  const state = trouble === null ? answering : trouble.refuses === 'writes' ? 'read-only' : 'refused'
  const problem = trouble && {
    kind: trouble.kind,
    since: trouble.since.toISOString(),
    reason: trouble.reason,
    remedy: trouble.remedy,
  }
  return { ok: state === 'ok', state, problem, remedy: state === 'unreachable' ? remedyOf(store) : null }
}

/** The round trip and the members of the store, within a second: the time limit of a store call. */
async function lookAtStore(admin: AdminContext) {
  const [round_trip_ms, members] = await Promise.all([roundTripMs(admin), admin.store.members?.() ?? []])
  return { round_trip_ms, members }
}

/** Milliseconds of one read now; null when the store does not answer. */
async function roundTripMs({ store, cluster, keys, clock }: AdminContext): Promise<number | null> {
  if (!cluster.following) return null
  const startedAt = clock.now()
  try {
    await store.get(keys.leader)
    return Math.round((clock.now() - startedAt) * 10) / 10
  } catch {
    return null // `conditionOf` reports that the store is down
  }
}

function countNodes(nodes: readonly NodeView[]) {
  const registered = nodes.filter((node) => !node.departed)
  return {
    total: nodes.length,
    up: registered.filter((node) => node.status?.health === 'up').length,
    slow: registered.filter((node) => node.status?.health === 'slow').length,
    down: registered.filter((node) => node.status?.health === 'down').length,
    cordoned: registered.filter((node) => node.spec.state === 'cordoned').length,
    departed: nodes.length - registered.length,
  }
}

/**
 * Nodes that requests avoid: down, slow, or for this instance frozen or with an open breaker; the worst first. A healthy node
 * with a half-open breaker gets the next request that needs it: that is no fault.
 */
function unwell(nodes: readonly NodeView[], { upstreams }: AdminContext) {
  const found = nodes
    .filter(({ departed }) => !departed)
    .map(({ name, health, status }) => ({
      name,
      health,
      breaker: upstreams.breakerState(name),
      frozen: upstreams.isFrozen(name),
      since: status?.since ?? null,
      reason: status?.reason ?? '',
    }))
  const recovering = found.filter((node) => node.breaker === 'half-open' && !isAvoided(node))
  const avoided = found
    .filter(isAvoided)
    .sort((a, b) => Number(b.health === 'down') - Number(a.health === 'down') || (a.name < b.name ? -1 : 1))
  return {
    unwell: avoided.length,
    unwell_first: avoided.slice(0, shownUnwell),
    recovering: recovering.slice(0, shownUnwell).map(({ name }) => name),
  }
}

function isAvoided({ health, breaker, frozen }: StatusAnswer['nodes']['unwell_first'][number]): boolean {
  const isUntested = breaker === 'open' || (breaker === 'half-open' && health !== 'up')
  return health === 'down' || health === 'slow' || frozen || isUntested
}

/** The nodes that departed last, the newest first. */
function firstDeparted(nodes: readonly NodeView[]) {
  return nodes
    .flatMap(({ name, departed, onDisk }) =>
      departed ? [{ name, ...departed, models: [...onDisk.keys()] }] : [],
    )
    .sort((a, b) => (a.since > b.since ? -1 : 1))
    .slice(0, shownDeparted)
    .map(({ models, ...node }) => ({ ...node, models: models.slice(0, shownDeparted) }))
}

/** Sums over the instances of which current numbers are known: up to a second old, and live of this one. */
function requests({ cluster, scheduler, instance }: AdminContext, isCurrent: boolean) {
  const others = isCurrent ? [...cluster.view.loads()].filter(([id]) => id !== instance) : []
  const loads = others.map(([, load]) => load)
  const all = [...loads, scheduler.summary()]
  return {
    running: all.flatMap(({ running }) => Object.values(running)).reduce((sum, each) => sum + each, 0),
    queued: all.reduce((sum, { queued }) => sum + queued, 0),
  }
}
