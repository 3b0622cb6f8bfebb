import { jsonUtf8Type } from './dialect.ts'
import { goJson } from './json.ts'
import type { Exchange, Machine } from './machine.ts'

// A simulated node has no account at ollama.com: what needs one is refused as on a real node nobody signed in to.

/** `/api/status`: the cloud is neither configured nor forbidden. */
export function cloudStatus(_machine: Machine, exchange: Exchange): Promise<void> {
  return answer(exchange, 200, { cloud: { disabled: false, source: 'none' } })
}

/** `/api/me` and the two routes of web search (ollama-api.md §1.5). */
export function unauthorized(_machine: Machine, exchange: Exchange): Promise<void> {
  const signin_url = 'https://ollama.com/connect?name=simulated&key=c2ltdWxhdGVk'
  return answer(exchange, 401, { error: 'unauthorized', signin_url })
}

/** `/api/signout` and the deletion of a key. */
export function signOut(_machine: Machine, exchange: Exchange): Promise<void> {
  return answer(exchange, 401, { error: 'you are not currently signed in' })
}

/** `/api/experimental/model-recommendations`: the names of what can be pulled. */
export function recommendations({ registry }: Machine, exchange: Exchange): Promise<void> {
  const models = [...registry.values()].map(({ name }) => ({ model: name }))
  return answer(exchange, 200, { recommendations: models })
}

function answer({ reply }: Exchange, status: number, value: unknown): Promise<void> {
  return reply.whole(status, { type: jsonUtf8Type, text: goJson(value) })
}
