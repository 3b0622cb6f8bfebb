import type Router from '@koa/router'
import type { Snapshot } from '../fleet/snapshot.ts'
import { type AdminContext, apiVersion } from './context.ts'

/** Which model is where: on disk, and in memory. */
export function modelRoutes(router: Router, { snapshot }: AdminContext): void {
  router.get('/admin/v1/models', (context) => {
    const current = snapshot.get()
    context.body = { apiVersion, models: [...current.models.keys()].sort().map((name) => row(name, current)) }
  })

  router.get('/admin/v1/models/loaded', (context) => {
    const loaded = snapshot.get().loaded.map(({ node, model }) => {
      const { name, size, size_vram, context_length, expires_at, digest } = model
      return { name, node, size, size_vram, context_length, expires_at, digest }
    })
    context.body = { apiVersion, loaded }
  })
}

function row(name: string, { models, loaded }: Snapshot) {
  const model = models.get(name)
  const details = model?.newest.details ?? {}
  return {
    name,
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
