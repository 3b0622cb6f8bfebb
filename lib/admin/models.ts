import type Router from '@koa/router'
import { aliasesOf } from '../fleet/aliases.ts'
import { canonicalName } from '../fleet/names.ts'
import type { LoadedModel, NodeView } from '../fleet/node.ts'
import type { Snapshot } from '../fleet/snapshot.ts'
import { ProxyError } from '../shared/errors.ts'
import { type AdminContext, apiVersion } from './context.ts'

/** Which model is where: on disk, and in memory. */
export function modelRoutes(router: Router, { snapshot }: Pick<AdminContext, 'snapshot'>): void {
  router.get('/admin/v1/models', (context) => {
    const current = snapshot.get()
    const models = [...current.models.keys()].map((name) => row(name, current))
    const all = [...models, ...aliasRows(current)]
    context.body = { apiVersion, models: all.sort((a, b) => (a.name < b.name ? -1 : 1)) }
  })

  router.get('/admin/v1/models/loaded', (context) => {
    const loaded = snapshot
      .get()
      .loaded.map(({ node, model }) => ({ name: model.name, node, ...memoryOf(model) }))
    context.body = { apiVersion, loaded }
  })

  // After the one above: canonical names have a tag, so that "loaded:latest" can be asked for.
  router.get('/admin/v1/models/:name', (context) => {
    const written = context.params['name'] ?? ''
    const current = snapshot.get()
    const asked = canonicalName(written) ?? ''
    const alias = current.models.has(asked) ? null : aliasRows(current).find((each) => each.name === asked)
    const model = current.models.get(alias?.alias_of ?? asked)
    if (!model) throw new ProxyError('model_not_found', { model: written.slice(0, 400) })
    const { name, newest } = model
    const copies = [...current.nodes.values()].flatMap((node) => copyOn(node, name, newest.digest) ?? [])
    context.body = {
      apiVersion,
      ...(alias ?? row(name, current)),
      family: String(newest.details['family'] ?? ''),
      capabilities: newest.capabilities ?? [],
      copies,
    }
  })
}

/** A node's copies of a model, on disk and in memory; null when it has none. */
function copyOn({ name: node, spec, status }: NodeView, name: string, newest: string) {
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

/** The names that routes give to models: each as its model, under its own name. */
function aliasRows(snapshot: Snapshot) {
  const rows = aliasesOf(snapshot.routes)
    .filter(({ name, model }) => snapshot.models.has(model) && !snapshot.models.has(name))
    .map(({ name, model }) => ({ ...row(model, snapshot), name, alias_of: model }))
  // Routes of several tenants may make the same alias.
  return [...new Map(rows.map((each) => [`${each.name} ${each.alias_of}`, each])).values()]
}

function row(name: string, { models, loaded }: Snapshot) {
  const model = models.get(name)
  const details = model?.newest.details ?? {}
  return {
    name,
    /** The model that answers under this name; null: the name is the model's own. */
    alias_of: null as string | null,
    size: model?.newest.size ?? 0,
    digest: model?.newest.digest ?? '',
    modified_at: model?.newest.modified_at ?? '',
    nodes: model?.holders ?? [],
    older_on: model?.olderOn ?? [],
    loaded_on: loaded.filter((each) => each.model.name === name).map(({ node }) => node),
    parameter_size: String(details['parameter_size'] ?? ''),
    quantization: String(details['quantization_level'] ?? ''),
  }
}
