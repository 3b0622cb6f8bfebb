import { isBefore, isRelease } from '../shared/versions.ts'
import type { NodeView } from './node.ts'
import type { Snapshot } from './snapshot.ts'

/** Versions of Ollama that answer the same request in another way than those before, oldest first. */
const changes: readonly { readonly version: string; readonly what: string }[] = [
  {
    version: '0.15.5',
    what: 'the default num_ctx follows the memory of the GPUs, and is 4096 before (api/types.go)',
  },
  {
    version: '0.32.10',
    what: 'the default repeat_penalty is 1.0, and 1.1 before (ollama#17679)',
  },
]

/** Nodes, and models, that one warning names. */
const maxNamed = 5

/** By the nodes of a snapshot, which the next one shares unless they change. */
const known = new WeakMap<Snapshot['nodes'], readonly string[]>()

/** What an operator should know of the nodes together: each may be well, and answers still depend on the node. */
export function fleetWarnings({ nodes }: Pick<Snapshot, 'nodes'>): readonly string[] {
  const before = known.get(nodes)
  if (before) return before
  const used = [...nodes.values()].filter(({ spec }) => spec.state !== 'off')
  const warnings = [...versionWarnings(used), ...capabilityWarnings(used)]
  known.set(nodes, warnings)
  return warnings
}

function versionWarnings(nodes: readonly NodeView[]): string[] {
  const released = nodes.filter(({ status }) => isRelease(status?.version ?? ''))
  return changes.flatMap(({ version, what }) => {
    const before = released.filter(({ status }) => isBefore(status?.version ?? '', version))
    if (before.length === 0 || before.length === released.length) return []
    return `nodes have versions of Ollama that answer differently: since ${version} ${what}. Before it: ${named(before.map(({ name, status }) => `${name} (${status?.version})`))}. Upgrade them, or set the option in requests or in the model`
  })
}

/** Copies that are equal, on nodes of one version, can do the same: one that cannot has damaged files. */
function capabilityWarnings(nodes: readonly NodeView[]): string[] {
  const suspects = [...suspectModels(nodes)]
  const told = suspects.slice(0, maxNamed).map((model) => {
    const listed = nodes.map(({ name, status }) => {
      const copy = status?.models.find((each) => each.name === model)
      return { name, list: copy?.capabilities && listOf(copy.capabilities) }
    })
    const byList = Map.groupBy(listed, ({ list }) => list)
    byList.delete(undefined)
    const ways = [...byList].map(
      ([list, on]) => `${list || 'nothing'} on ${named(on.map(({ name }) => name))}`,
    )
    return `equal copies of ${model} can do different things: ${ways.join('; ')}. Where something is missing its files may be damaged: pull the model again there`
  })
  const rest = suspects.length - told.length
  return rest > 0 ? [...told, `${rest} more models differ in the same way`] : told
}

interface Copy {
  readonly name: string
  readonly digest: string
  readonly version: string
  readonly capabilities: readonly string[]
}

/** Names of models of which two equal copies list different capabilities. Of 100,000 copies each is compared with one. */
function suspectModels(nodes: readonly NodeView[]): Set<string> {
  const kinds = new Map<string, Copy[]>()
  const suspects = new Set<string>()
  for (const copy of copiesOn(nodes)) {
    const known = kinds.get(copy.name) ?? []
    const alike = known.find(({ digest, version }) => digest === copy.digest && version === copy.version)
    if (!alike) kinds.set(copy.name, [...known, copy])
    else if (!isSame(alike.capabilities, copy.capabilities)) suspects.add(copy.name)
  }
  return suspects
}

function* copiesOn(nodes: readonly NodeView[]): Generator<Copy> {
  for (const { status } of nodes)
    for (const { name, digest, capabilities } of status?.models ?? [])
      if (capabilities) yield { name, digest, version: status?.version ?? '', capabilities }
}

function isSame(some: readonly string[], others: readonly string[]): boolean {
  return (
    some.length === others.length && others.every((each, nth) => some[nth] === each || some.includes(each))
  )
}

function listOf(capabilities: readonly string[]): string {
  return capabilities.toSorted().join(', ')
}

function named(names: readonly string[]): string {
  const rest = names.length - maxNamed
  return names.slice(0, maxNamed).join(', ') + (rest > 0 ? ` and ${rest} more` : '')
}
