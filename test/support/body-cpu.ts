import type { Api } from '../../lib/fleet/request-spec.ts'
import { admit } from '../../lib/gateway/admission/admit.ts'
import { namesFor } from '../../lib/gateway/admission/request-options.ts'
import { scanBody } from '../../lib/gateway/body/scan-body.ts'
import type { Exchange } from '../../lib/gateway/http/exchange.ts'
import { findEndpoint } from '../../lib/gateway/http/find-endpoint.ts'
import { ProxyError } from '../../lib/shared/errors.ts'
import { CpuReport, longestTurnMs } from './cpu.ts'
import { aSnapshot } from './fleet.ts'
import { heavyBody } from './heavy-bodies.ts'

const snapshot = aSnapshot({
  nodes: [{ name: 'a', loaded: ['m:latest'] }],
  config: { callers: { num_predict: 100 } },
})
const caller = { tenant: 't', models: ['*'], mayManage: false }
const exchange = { id: 'x', startedAt: 0, request: { headers: {} } } as unknown as Exchange
const { signal } = new AbortController()
const paths: Partial<Record<Api, string>> = { ollama_chat: '/api/chat', openai_chat: '/v1/chat/completions' }

/** The longest turn of the event loop in which a body is scanned, admitted and changed, or refused. */
export async function measureBodies(
  names: readonly string[],
  size: number,
  enough: number,
): Promise<CpuReport> {
  const report = new CpuReport()
  for (const name of names) {
    const { api, bytes } = heavyBody(name, size)
    report.add(name, await longestTurnMs(() => admitted(api, bytes), { enough, rounds: 6 }))
  }
  return report
}

async function admitted(api: Api, bytes: Buffer): Promise<void> {
  const route = findEndpoint('POST', paths[api] ?? '', snapshot.config)
  if (route.action !== 'forward') throw new Error(`${api} is not forwarded`)
  try {
    const scanned = await scanBody(bytes, namesFor(api), signal)
    admit(exchange, route, caller, { bytes, scanned }, snapshot)
  } catch (error) {
    if (!(error instanceof ProxyError)) throw error
  }
}
