import type { RouteTestAnswer, routeTestEndpoints } from '../../api/route-test.ts'
import { canonicalName } from '../../fleet/documents/names.ts'
import { contextVariant } from '../../fleet/models/variant.ts'
import type { RequestSpec } from '../../fleet/request-spec.ts'
import {
  classOf,
  contextIn,
  contextSettingOf,
  type Resolution,
  resolve,
} from '../../gateway/admission/resolve-model.ts'
import { ProxyError } from '../../shared/errors.ts'
import type { Handlers } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import { estimateRow } from './estimate.ts'

/** What this instance would do with a request now. The code that serves requests decides; nothing is sent. */
export function routeTestHandlers(admin: AdminContext): Handlers<typeof routeTestEndpoints> {
  return {
    testRoute: ({ body: { model, tenant, class: ofKey, num_ctx } }) => {
      const asked = canonicalName(model)
      if (!asked) throw new ProxyError('bad_model', { model: JSON.stringify(model.slice(0, 200)) })
      const snapshot = admin.snapshot.get()
      const resolution = resolve(asked, tenant, snapshot)
      const named = classOf(resolution.route, ofKey, snapshot)
      return {
        asked,
        tenant,
        route: resolution.route?.name ?? null,
        wanted: resolution.wanted,
        labels: resolution.route?.nodes ?? {},
        class: named,
        ...(resolution.model === null
          ? {
              model: null,
              num_ctx: num_ctx ?? null,
              panic: false,
              nodes: [],
              choice: null,
              refusal: 'no-model',
            }
          : choose(resolution, { model: resolution.model, tenant, class: named, num_ctx }, admin)),
      }
    },
  }
}

interface Wish {
  readonly model: string
  readonly tenant: string
  readonly class: string
  readonly num_ctx: number | undefined
}

type Choice = Omit<RouteTestAnswer, 'asked' | 'tenant' | 'route' | 'wanted' | 'labels' | 'class'>

function choose({ route, isFallback }: Resolution, wish: Wish, admin: AdminContext): Choice {
  const { model, tenant, num_ctx } = wish
  const context = contextIn(contextSettingOf(model, route, admin.snapshot.get()), num_ctx)
  const ask: RequestSpec = {
    id: 'route-test',
    api: 'ollama_chat',
    model,
    variant: context === undefined ? '' : contextVariant(context),
    tenant,
    class: wish.class,
    labels: route?.nodes ?? {},
    arrivedAt: admin.clock.now(),
    tried: new Set(),
  }
  const explanation = admin.scheduler.explain(ask)
  const { pick, panic, perNode } = explanation
  const nodes = perNode.map(({ node, barrier, running, residence }) => ({
    name: node.name,
    excluded: barrier,
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
