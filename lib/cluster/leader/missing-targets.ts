import { byModel } from '../../fleet/config.ts'
import { type Labels, matchesLabels } from '../../fleet/documents/field-schemas.ts'
import { canonicalName, matchesModel } from '../../fleet/documents/names.ts'
import { type Alias, aliasesOf } from '../../fleet/models/aliases.ts'
import type { NodeView } from '../../fleet/node.ts'
import { shadowedRoutes } from '../../fleet/shadowed-routes.ts'
import type { ApiKeyView, RouteView, Snapshot } from '../../fleet/snapshot.ts'
import { didYouMean } from '../../shared/did-you-mean.ts'
import type { KeyLayout } from '../../store/key-layout.ts'

/** Whether the models of every node in service are known. Before that, no model is known to be missing. */
export function isInventoryComplete({ nodes }: Snapshot): boolean {
  return (
    nodes.size > 0 && [...nodes.values()].every(({ spec, status }) => spec.state === 'off' || status !== null)
  )
}

/**
 * Warnings about targets of routes, keys and the config that do not exist, by the key of the document: models that no
 * node has, patterns that match no model, labels and names without a node, and routes that never apply. The documents are in force all the same, since
 * a model or node may be added later.
 */
export function noteMissingTargets(snapshot: Snapshot, places: KeyLayout): Map<string, string[]> {
  const fleet = new Fleet(snapshot)
  const notes = new Map<string, string[]>()
  const note = (place: string, found: readonly (string | null)[]) => {
    const said = found.filter((each) => each !== null)
    if (said.length > 0) notes.set(place, said)
  }
  const shadowed = shadowedRoutes(snapshot.routes)
  for (const route of snapshot.routes) {
    const earlier = shadowed.get(route)
    const never = earlier
      ? `never applies: route "${earlier.name}" comes first and matches all that it matches`
      : null
    note(places.route(route.name), [never, ...notesOnRoute(route, fleet)])
  }
  for (const key of snapshot.keys.values()) note(places.apiKey(key.id), notesOnKey(key, fleet))
  note(places.config, notesOnConfig(snapshot, fleet))
  return notes
}

function notesOnRoute({ match, model, fallback, nodes }: RouteView, fleet: Fleet): (string | null)[] {
  const isExact = !match.model.includes('*')
  const targets = [...(model === undefined ? [] : [model]), ...fallback]
  const first = canonicalName(model ?? (isExact ? match.model : ''))
  const areSelected = fleet.isAnySelected(nodes)
  return [
    // With a model, the match may be an alias or another vendor's model, which no node has.
    model === undefined
      ? fleet.uncovered('match.model', match.model)
      : impossible('match.model', match.model),
    ...targets.map((name) => fleet.missing(name)),
    areSelected
      ? null
      : `nodes: no node has the labels ${textOf(nodes)}, so no server may answer requests of this route`,
    areSelected && first !== null && !fleet.has(first, nodes)
      ? `no node with the labels ${textOf(nodes)} has model "${first}"`
      : null,
  ]
}

function notesOnKey({ models }: ApiKeyView, fleet: Fleet): (string | null)[] {
  return models.map((pattern) => fleet.uncovered('models', pattern))
}

function notesOnConfig({ config, nodes }: Snapshot, fleet: Fleet): (string | null)[] {
  const { routing, node_identity, management, models } = config
  const absent = (field: string, name: string | undefined) =>
    name === undefined || nodes.has(name) ? null : `${field}: there is no node "${name}"`
  return [
    routing.unknown_paths === byModel ? null : absent('routing.unknown_paths', routing.unknown_paths),
    absent('node_identity.node', node_identity.node),
    fleet.isAnySelected(management.nodes)
      ? null
      : `management.nodes: no node has the labels ${textOf(management.nodes)}, so no new model can be pulled`,
    ...models.map(({ match }, index) => fleet.uncovered(`models.${index}.match`, match)),
  ]
}

/** The warning that no model can have the name, or a name of the pattern; null when one can. */
function impossible(field: string, pattern: string): string | null {
  const isGlob = pattern.includes('*')
  if (isGlob ? /^[\w*./:-]+$/.test(pattern) : canonicalName(pattern) !== null) return null
  return `${field} "${pattern}" is no name that a request can ask for`
}

/** Cached results for the models and aliases of a fleet: they change rarely, and are needed every second. */
interface Findings {
  readonly aliases: readonly Alias[]
  /** By glob: whether it matches a model. */
  readonly covers: Map<string, boolean>
  /** By missing name: the name that may have been meant. */
  readonly hints: Map<string, string>
}

const findings = new WeakMap<Snapshot['models'], Findings>()

/** With more models no name is suggested: each missing name is compared with all of them. */
const maxCompared = 200

/** Answers what exists in a fleet, for many documents in a row. */
class Fleet {
  readonly #snapshot: Snapshot
  readonly #known: Findings
  /** Nodes by the labels that select them, as JSON: many routes have the same labels. */
  readonly #selected = new Map<string, readonly NodeView[]>()

  constructor(snapshot: Snapshot) {
    const { models, routes } = snapshot
    const aliases = aliasesOf(routes)
    const before = findings.get(models)
    this.#snapshot = snapshot
    this.#known = before?.aliases === aliases ? before : { aliases, covers: new Map(), hints: new Map() }
    findings.set(models, this.#known)
  }

  /** The warning that a pattern matches no model and no alias; null when it matches one. */
  uncovered(field: string, pattern: string): string | null {
    if (pattern === '*' || this.#covers(pattern)) return null
    return `${field} "${pattern}" covers no model of any node and no alias${this.#hint(pattern)}`
  }

  /** The warning that no node has a model; null when one has it. */
  missing(model: string): string | null {
    const name = canonicalName(model) ?? model
    return this.#snapshot.models.has(name) ? null : `no node has model "${name}"${this.#hint(name)}`
  }

  isAnySelected(labels: Labels): boolean {
    return Object.keys(labels).length === 0 || this.#nodesWith(labels).length > 0
  }

  /** Whether a node with these labels has a model; true for a model that no node has, which `missing` reports. */
  has(model: string, labels: Labels): boolean {
    const having = this.#snapshot.models.get(model)?.presentOn
    if (!having || Object.keys(labels).length === 0) return true
    return this.#nodesWith(labels).some(({ name }) => having.includes(name))
  }

  #nodesWith(labels: Labels): readonly NodeView[] {
    const key = JSON.stringify(labels)
    const selected =
      this.#selected.get(key) ??
      [...this.#snapshot.nodes.values()].filter(({ spec }) => matchesLabels(labels, spec.labels))
    this.#selected.set(key, selected)
    return selected
  }

  #covers(pattern: string): boolean {
    const { aliases, covers } = this.#known
    const { models } = this.#snapshot
    const isCovered =
      covers.get(pattern) ??
      (models.has(canonicalName(pattern) ?? pattern) ||
        aliases.some(({ name }) => matchesModel(pattern, name)) ||
        (pattern.includes('*') && [...models.keys()].some((name) => matchesModel(pattern, name))))
    covers.set(pattern, isCovered)
    return isCovered
  }

  #hint(written: string): string {
    const { aliases, hints } = this.#known
    const { models } = this.#snapshot
    const name = canonicalName(written) ?? written
    const names = models.size > maxCompared ? [] : [...models.keys(), ...aliases.map((each) => each.name)]
    const meant = hints.get(name) ?? otherTagOf(name, names) ?? didYouMean(name, names) ?? ''
    hints.set(name, meant)
    return meant === '' ? '' : `; did you mean "${meant}"?`
  }
}

/** The same name with another tag: the most frequent slip is a tag that was left out. */
function otherTagOf(name: string, names: readonly string[]): string | undefined {
  const untagged = name.slice(0, name.lastIndexOf(':') + 1)
  return untagged === '' ? undefined : names.find((each) => each.startsWith(untagged))
}

function textOf(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(', ')
}
