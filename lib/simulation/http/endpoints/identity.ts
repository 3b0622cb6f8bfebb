import { jsonUtf8Type } from '../dialects/dialect.ts'
import { parseName } from '../disk/model-name.ts'
import { goJson } from '../json.ts'
import type { Machine, NodeExchange } from '../machine.ts'

// A simulated node has no account at ollama.com: a request that needs one is refused as on a real node without an account.

/** `/api/status`: whether models of ollama.com may be used (OLLAMA_NO_CLOUD). */
export function cloudStatus({ cloud }: Machine, exchange: NodeExchange): Promise<void> {
  const disabled = cloud === 'off'
  return answer(exchange, 200, { cloud: { disabled, source: disabled ? 'env' : 'none' } })
}

/** Whether a name means a model of ollama.com that the node has no copy of (ollama: internal/modelref). */
export function isAway({ shelf }: Machine, model: string): boolean {
  if (!/:([^/:]*-)?cloud$/i.test(model.trim())) return false
  const name = parseName(model)
  return name === null || !shelf.get(name)
}

/** ollama: proxyCloudRequestWithPath in server/cloud_proxy.go, in the same words on every dialect's routes. */
export function cloudModel(machine: Machine, exchange: NodeExchange, what: string): Promise<void> {
  if (machine.cloud === 'signed-out') return unauthorized(machine, exchange)
  return answer(exchange, 403, { error: `ollama cloud is disabled: ${what}` })
}

/** `/api/me` and the two routes of web search (docs/ollama.md#answers). */
export function unauthorized(_machine: Machine, exchange: NodeExchange): Promise<void> {
  const signin_url = 'https://ollama.com/connect?name=simulated&key=c2ltdWxhdGVk'
  return answer(exchange, 401, { error: 'unauthorized', signin_url })
}

/** `/api/signout` and the deletion of a key. */
export function signOut(_machine: Machine, exchange: NodeExchange): Promise<void> {
  return answer(exchange, 401, { error: 'you are not currently signed in' })
}

/** `/api/experimental/model-recommendations`: the names of what can be pulled. */
export function recommendations({ registry }: Machine, exchange: NodeExchange): Promise<void> {
  const models = [...registry.values()].map(({ name }) => ({ model: name }))
  return answer(exchange, 200, { recommendations: models })
}

function answer({ reply }: NodeExchange, status: number, value: unknown): Promise<void> {
  return reply.whole(status, { type: jsonUtf8Type, text: goJson(value) })
}
