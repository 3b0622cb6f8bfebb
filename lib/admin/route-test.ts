import type Router from '@koa/router'
import { z } from 'zod'
import type { Ask } from '../fleet/ask.ts'
import { className } from '../fleet/classes.ts'
import { describeFaults } from '../fleet/contents.ts'
import { readValue } from '../fleet/document.ts'
import { canonicalName } from '../fleet/names.ts'
import { contextVariant } from '../fleet/variant.ts'
import { classOf, contextIn, contextRule, type Resolution, resolve } from '../gateway/resolve.ts'
import { ProxyError } from '../shared/errors.ts'
import { type AdminContext, apiVersion } from './context.ts'
import { outlookRow } from './outlook.ts'

const questionSchema = z.strictObject({
  model: z.string(),
  tenant: z.string().default('anonymous'),
  class: className.exactOptional(),
  num_ctx: z.int().min(1).exactOptional(),
})

/** What this instance would do with a request now, by the very code that would do it; nothing is sent. */
export function routeTest(router: Router, admin: AdminContext): void {
  router.post('/admin/v1/routes/test', (context) => {
    const question = readValue(context.request.body, questionSchema)
    if (!question.ok) throw new ProxyError('invalid', { reason: describeFaults(question.faults) })
    const { model, tenant, class: ofKey, num_ctx } = question.value
    const asked = canonicalName(model)
    if (!asked) throw new ProxyError('bad_model', { model: JSON.stringify(model.slice(0, 200)) })
    const snapshot = admin.snapshot.get()
    const resolution = resolve(asked, tenant, snapshot)
    const named = classOf(resolution.route, ofKey, snapshot)
    context.body = {
      apiVersion,
      asked,
      tenant,
      route: resolution.route?.name ?? null,
      wanted: resolution.wanted,
      labels: resolution.route?.nodes ?? {},
      class: named,
      model: resolution.model,
      ...(resolution.model === null
        ? { num_ctx: num_ctx ?? null, panic: false, nodes: [], choice: null, refusal: 'no-model' }
        : choose(resolution, { model: resolution.model, tenant, class: named, num_ctx }, admin)),
    }
  })
}

interface Wish {
  readonly model: string
  readonly tenant: string
  readonly class: string
  readonly num_ctx: number | undefined
}

function choose({ route, isFallback }: Resolution, wish: Wish, admin: AdminContext) {
  const { model, tenant, num_ctx } = wish
  const context = contextIn(contextRule(model, route, admin.snapshot.get()), num_ctx)
  const ask: Ask = {
    id: 'route-test',
    api: 'ollama_chat',
    model,
    variant: context === undefined ? '' : contextVariant(context),
    tenant,
    class: wish.class,
    nodes: route?.nodes ?? {},
    arrivedAt: admin.clock.now(),
    tried: new Set(),
  }
  const explanation = admin.scheduler.explain(ask)
  const { pick, panic, standings } = explanation
  const nodes = standings.map(({ node, barrier, running, residence }) => ({
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
  const outlook = outlookRow(explanation, admin.clock.now() / 1000)
  const found = { num_ctx: context ?? null, panic, nodes, outlook }
  if ('none' in pick) return { ...found, choice: null, refusal: pick.none }
  const reason = isFallback ? 'fallback' : pick.reason
  return { ...found, choice: { node: pick.node.name, reason }, refusal: null }
}
