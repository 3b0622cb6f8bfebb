import type { CopyAnswer, ModelAnswer, modelEndpoints } from '../../api/models.ts'
import { canonicalName } from '../../fleet/documents/names.ts'
import { aliasesOf } from '../../fleet/models/aliases.ts'
import type { LoadedModel, NodeView } from '../../fleet/node.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'

/** The models on disk and in memory, by node. */
export function modelHandlers({ snapshot }: Pick<AdminContext, 'snapshot'>): Handlers<typeof modelEndpoints> {
  return {
    listModels: () => {
      const current = snapshot.get()
      const models = [...current.models.keys()].map((name) => row(name, current))
      const all = [...models, ...aliasRows(current)]
      return { models: all.sort((a, b) => (a.name < b.name ? -1 : 1)) }
    },

    listLoadedModels: () => {
      const { loaded } = snapshot.get()
      return { loaded: loaded.map(({ node, model }) => ({ name: model.name, node, ...memoryOf(model) })) }
    },

    readModel: ({ params: { name: written } }) => {
      const current = snapshot.get()
      const asked = canonicalName(written) ?? ''
      const alias = current.models.has(asked) ? null : aliasRows(current).find((each) => each.name === asked)
      const model = current.models.get(alias?.alias_of ?? asked)
      if (!model) throw new ProxyError('model_not_found', { model: written.slice(0, 400) })
      const { name, newest } = model
      return {
        ...(alias ?? row(name, current)),
        family: String(newest.details['family'] ?? ''),
        capabilities: newest.capabilities ?? [],
        copies: [...current.nodes.values()].flatMap((node) => copyOn(node, name, newest.digest) ?? []),
      }
    },
  }
}

/** A node's copies of a model, on disk and in memory; null when it has none. */
function copyOn({ name: node, spec, status }: NodeView, name: string, newest: string): CopyAnswer | null {
  const disk = status?.models.find((model) => model.name === name)
  const memory = status?.loaded.find((model) => model.name === name)
  if (spec.state === 'off' || !status || (!disk && !memory)) return null
  return {
    node,
    health: status.health,
    disk: disk
      ? {
          digest: disk.digest,
          size: disk.size,
          modified_at: disk.modified_at,
          newest: disk.digest === newest,
        }
      : null,
    memory: memory ? memoryOf(memory) : null,
  }
}

function memoryOf({ size, size_vram, context_length, expires_at, digest }: LoadedModel) {
  return { size, size_vram, context_length, expires_at, digest }
}

/** Aliases that routes make: each a row with the fields of its model under the name of the alias. */
function aliasRows(snapshot: Snapshot): ModelAnswer[] {
  const rows = aliasesOf(snapshot.routes)
    .filter(({ name, model }) => snapshot.models.has(model) && !snapshot.models.has(name))
    .map(({ name, model }) => ({ ...row(model, snapshot), name, alias_of: model }))
  // Routes of several tenants may define the same alias.
  return [...new Map(rows.map((each) => [`${each.name} ${each.alias_of}`, each])).values()]
}

function row(name: string, { models, loaded }: Snapshot): ModelAnswer {
  const model = models.get(name)
  const details = model?.newest.details ?? {}
  return {
    name,
    alias_of: null,
    size: model?.newest.size ?? 0,
    digest: model?.newest.digest ?? '',
    modified_at: model?.newest.modified_at ?? '',
    nodes: model?.presentOn ?? [],
    older_on: model?.olderOn ?? [],
    loaded_on: loaded.filter((each) => each.model.name === name).map(({ node }) => node),
    parameter_size: String(details['parameter_size'] ?? ''),
    quantization: String(details['quantization_level'] ?? ''),
  }
}
