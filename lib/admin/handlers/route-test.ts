import type { RouteTestAnswer, routeTestEndpoints } from '../../api/route-test.ts'
import { canonicalName } from '../../fleet/documents/names.ts'
import { contextVariant } from '../../fleet/models/variant.ts'
import type { Api, RequestSpec } from '../../fleet/request-spec.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import { unableNodes } from '../../gateway/admission/capable-models.ts'
import { takesOptions } from '../../gateway/admission/request-options.ts'
import {
  classOf,
  contextIn,
  contextSettingOf,
  type Resolution,
  resolve,
} from '../../gateway/admission/resolve-model.ts'
import { findEndpoint } from '../../gateway/http/find-endpoint.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import { estimateRow } from './estimate.ts'

/** What this instance would do with a request now. The code that serves requests decides; nothing is sent. */
export function routeTestHandlers(admin: AdminContext): Handlers<typeof routeTestEndpoints> {
  return {
    testRoute: ({ body: { model, path, tenant, class: ofKey, num_ctx } }) => {
      const asked = canonicalName(model)
      if (!asked) throw new ProxyError('bad_model', { model: JSON.stringify(model.slice(0, 200)) })
      const snapshot = admin.snapshot.get()
      const api = apiOf(path, snapshot)
      const resolution = resolve(asked, tenant, snapshot)
      const named = classOf(resolution.route, ofKey, snapshot)
      return {
        asked,
        path,
        tenant,
        route: resolution.route?.name ?? null,
        wanted: resolution.wanted,
        labels: resolution.route?.nodes ?? {},
        class: named,
        ...(resolution.model === null
          ? {
              model: null,
              num_ctx: takesOptions(api) ? (num_ctx ?? null) : null,
              panic: false,
              nodes: [],
              choice: null,
              refusal: 'no-model',
            }
          : choose(resolution, { api, model: resolution.model, tenant, class: named, num_ctx }, admin)),
      }
    },
  }
}

/** @throws ProxyError `unknown_path`, `method_not_allowed`; `invalid` for a path with requests that no model places. */
function apiOf(path: string, { config }: Snapshot): Api {
  const endpoint = findEndpoint('POST', path, config)
  if (endpoint.action === 'forward') return endpoint.api
  throw new ProxyError('invalid', {
    reason: `path "${path.slice(0, 200)}": its requests are not placed by their model`,
  })
}

interface Wish {
  readonly api: Api
  readonly model: string
  readonly tenant: string
  readonly class: string
  readonly num_ctx: number | undefined
}

type Choice = Omit<RouteTestAnswer, 'asked' | 'path' | 'tenant' | 'route' | 'wanted' | 'labels' | 'class'>

function choose({ route, isFallback }: Resolution, wish: Wish, admin: AdminContext): Choice {
  const { api, model, tenant, num_ctx } = wish
  const snapshot = admin.snapshot.get()
  const context = takesOptions(api) ? contextIn(contextSettingOf(model, route, snapshot), num_ctx) : undefined
  const ask: RequestSpec = {
    id: 'route-test',
    api,
    model,
    variant: context === undefined ? '' : contextVariant(context),
    tenant,
    class: wish.class,
    labels: route?.nodes ?? {},
    arrivedAt: admin.clock.now(),
    tried: unableNodes(api, model, snapshot),
  }
  const explanation = admin.scheduler.explain(ask)
  const { pick, panic, perNode } = explanation
  const nodes = perNode.map(({ node, barrier, running, residence }) => ({
    name: node.name,
    excluded: barrier === 'tried' ? ('capability' as const) : barrier,
    loaded: node.resident.has(model),
    other_variant: residence === 'other',
    running,
    slots: admin.scheduler.slots(node.name, ask) ?? node.slots,
    weight: node.weight,
    health: node.health,
    health_reason: node.status?.reason ?? '',
  }))
  const estimate = estimateRow(explanation, admin.clock.now() / 1000)
  const found = { model, num_ctx: context ?? null, panic, nodes, estimate }
  if ('none' in pick) return { ...found, choice: null, refusal: pick.none }
  const reason = isFallback ? 'fallback' : pick.reason
  return { ...found, choice: { node: pick.node.name, reason }, refusal: null }
}
