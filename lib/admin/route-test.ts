import type Router from '@koa/router'
import { z } from 'zod'
import { describeFaults, readValue } from '../fleet/document.ts'
import { canonicalName } from '../fleet/names.ts'
import { type Resolution, resolve } from '../gateway/resolve.ts'
import { ProxyError } from '../shared/errors.ts'
import { type AdminContext, apiVersion } from './context.ts'

const questionSchema = z.strictObject({ model: z.string(), tenant: z.string().default('anonymous') })

/** What this instance would do with a request now, by the very code that would do it; nothing is sent. */
export function routeTest(router: Router, admin: AdminContext): void {
  router.post('/admin/v1/routes/test', (context) => {
    const question = readValue(context.request.body, questionSchema)
    if (!question.ok) throw new ProxyError('invalid', { reason: describeFaults(question.faults) })
    const { model, tenant } = question.value
    const asked = canonicalName(model)
    if (!asked) throw new ProxyError('bad_model', { model: JSON.stringify(model.slice(0, 200)) })
    const resolution = resolve(asked, tenant, admin.snapshot.get())
    context.body = {
      apiVersion,
      asked,
      tenant,
      route: resolution.route?.name ?? null,
      wanted: resolution.wanted,
      model: resolution.model,
      ...(resolution.model === null
        ? { nodes: [], choice: null, refusal: 'no-model' }
        : choose(resolution, resolution.model, tenant, admin)),
    }
  })
}

function choose({ route, isFallback }: Resolution, model: string, tenant: string, admin: AdminContext) {
  const { pick, standings } = admin.scheduler.explain({
    id: 'route-test',
    api: 'ollama_chat',
    model,
    tenant,
    nodes: route?.nodes ?? {},
    arrivedAt: admin.clock.now(),
    tried: new Set(),
  })
  const nodes = standings.map(({ node, barrier, running, isResident }) => ({
    name: node.name,
    excluded: barrier,
    loaded: isResident,
    running,
    slots: node.slots,
    weight: node.weight,
  }))
  if ('none' in pick) return { nodes, choice: null, refusal: pick.none }
  const reason = isFallback ? 'fallback' : pick.reason
  return { nodes, choice: { node: pick.node.name, reason }, refusal: null }
}
